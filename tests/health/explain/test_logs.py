"""The entries of a log: how they are kept, and which columns are its losses."""

from __future__ import annotations

import json
import math

from loopos.health.explain.explain import explain
from loopos.health.explain.logs import Log, records_of_json, shown
from loopos.health.explain.names import name_of


def log_of(*losses):
    log = Log()
    for line, entry in enumerate(losses, 1):
        log.add(line, "", {}, {name_of((name,)): value for name, value in entry.items()})
    log.settle()
    return [record.values for record in log.records]


def test_a_long_log_is_thinned_and_its_bad_entries_stay(monkeypatch):
    monkeypatch.setattr("loopos.health.explain.logs.MAX_RECORDS", 100)
    log = Log()
    for line in range(1000):
        log.add(line, "", {"loss": math.nan if line == 777 else 1.0})
    assert log.entries == 1000
    assert len(log.records) <= 101
    assert any(math.isnan(record.values["loss"]) for record in log.records)


def test_a_log_of_bad_entries_is_thinned_too(monkeypatch):
    monkeypatch.setattr("loopos.health.explain.logs.MAX_RECORDS", 100)
    log = Log()
    for line in range(1000):
        log.add(line, "", {"loss": math.nan})
    assert len(log.records) <= 101


def test_settling_keeps_one_column_of_each_quantity():
    assert log_of({"loss": 2.0, "nll_loss": 1.0, "val_loss": 3.0}) == [{"loss": 2.0, "eval_loss": 3.0}]
    assert log_of({"loss": 2.0, "nll_loss": math.inf}) == [{"loss": 2.0, "nll loss": math.inf}]
    assert log_of({"loss": 2.0}, {"loss": 1.5}, {"nll_loss": 1.0}) == [{"loss": 2.0}, {"loss": 1.5}, {}]


def test_a_table_has_nan_in_the_column_of_the_other_kind():
    train, held = {"loss": 2.0, "val_loss": math.nan}, {"loss": math.nan, "val_loss": 2.5}
    assert log_of(train, train, held, train) == [{"loss": 2.0}, {"loss": 2.0}, {"eval_loss": 2.5}, {"loss": 2.0}]
    both = {"loss": 2.0, "val_loss": 2.5}
    assert len(log_of(both, train, held)[1]) == 2  # a column that has both is no such table
    assert len(log_of(train, train)[0]) == 2  # nothing was ever evaluated to a number
    lost = {"loss": math.nan, "val_loss": math.nan}
    assert len(log_of(train, held, lost)[2]) == 2


def test_entries_of_one_line_have_an_order():
    log = Log()
    for _ in range(3):
        log.add(7, "", {"loss": 1.0})
    assert [record.order for record in log.records] == [(7, 1), (7, 2), (7, 3)]


def test_a_json_document_gives_its_entries_with_their_lines():
    state = {"best_metric": None, "log_history": [{"loss": 2.0, "step": 1}, {"loss": 1.5, "step": 2}], "x": [1]}
    text = json.dumps(state, indent=2)
    places = [text[: text.index(f'"loss": {loss}')].count("\n") for loss in ("2.0", "1.5")]
    assert records_of_json(text) == list(zip(places, state["log_history"], strict=True))
    assert records_of_json(" [\n{}\n, 3, {}]") == [(2, {}), (3, {})]
    columns = records_of_json('{"loss": [2.0, 1.5], "val_loss": [3.0]}')
    assert columns == [(1, {"loss": 2.0, "val_loss": 3.0}), (1, {"loss": 1.5})]
    for other in ("{", "[1", "3", '{"loss": 2}', '{"log_history": 3}'):
        assert records_of_json(other) is None


def test_the_line_of_an_entry_of_a_document_is_quoted():
    text = json.dumps({"log_history": [{"loss": 0.0, "grad_norm": 1.0}, {"loss": math.nan}]}, indent=1)
    found = explain(text).findings[0]
    assert found.evidence[-1].startswith("line 7: {'loss': nan")


def test_a_line_is_shown_in_one_piece():
    assert shown("a\tb\x07" + "c" * 200) == "a b " + "c" * 155 + "…"
