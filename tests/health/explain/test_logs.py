"""Numbers out of lines, in the spellings of many trainers."""

from __future__ import annotations

import math

import pytest

from loopos.health.explain.logs import Log, Record, Table, canonical, lines_of, number, values_of


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,024", 1024.0), ("1.7 × 10^25", 1.7e25), ("-inf", -math.inf), ("1.#INF", math.inf), ("1e-3", 1e-3)],
)
def test_numbers(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["nan", "-nan(ind)", "1.#QNAN", "null"])
def test_what_is_no_number(text):
    assert math.isnan(number(text))


@pytest.mark.parametrize(
    ("key", "name"),
    [("train_loss", "loss"), ("val loss", "eval_loss"), ("lr", "learning_rate"), ("gnorm", "grad_norm")],
)
def test_one_name_for_a_quantity(key, name):
    assert canonical(key) == name


def test_a_name_that_comes_again_begins_the_next_entry():
    assert values_of("step: 1 loss: 2.5 step: 2 loss: 2.25") == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}]


def test_a_table_is_read_under_its_header():
    table = Table()
    assert table.row("epoch,train_loss,val_loss") is None
    assert table.row("1,2.5,2.75") == {"epoch": 1, "loss": 2.5, "eval_loss": 2.75}


def test_bytes_of_any_encoding_are_lines():
    notes: list[str] = []
    assert list(lines_of("loss: 1\r\nloss: 2\n".encode("utf-16"), notes)) == ["loss: 1", "loss: 2"]
    assert "UTF-16" in notes[0]


def test_a_long_log_is_thinned_and_its_bad_entries_stay(monkeypatch):
    monkeypatch.setattr("loopos.health.explain.logs.MAX_RECORDS", 100)
    log = Log()
    for line in range(1000):
        log.add(Record(line, "", {"loss": math.nan if line == 777 else 1.0}))
    assert log.entries == 1000
    assert len(log.records) <= 101
    assert any(math.isnan(record.values["loss"]) for record in log.records)
