"""A run as its folder tells it: sound lines are read, damaged ones named, and a long log is not held."""

from __future__ import annotations

import json

import pytest

from loopos.health.runs import checkpoints, count_lines, read_bits, read_run, stream_run, weights_digest

LINES = [json.dumps({"step": step, "loss": 1.0 / step}) for step in (1, 2, 3)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("\n".join([LINES[0], "{nonsense", LINES[1], "[]", LINES[2][:9]]))
    return tmp_path


def test_damaged_and_half_lines_are_named_and_the_rest_is_read(folder):
    run = read_run(folder)
    assert [record["step"] for record in run.records] == [1, 2]
    assert [said.partition(":")[0] for said in run.damaged] == ["line 2", "line 4", "line 5"]
    assert "it ends in the middle" in run.damaged[2]
    assert read_run(folder / "metrics.jsonl") == run


def test_the_last_record_of_a_step_counts(tmp_path):
    again = json.dumps({"step": 1, "loss": 7.0})
    (tmp_path / "metrics.jsonl").write_text("\n".join([LINES[1], LINES[0], again]) + "\n")
    assert [(step, record["loss"]) for step, record in read_run(tmp_path).by_step().items()] == [(1, 7.0), (2, 0.5)]


def test_a_streamed_log_can_be_gone_through_again(folder):
    run = stream_run(folder)
    assert [record["step"] for record in run.records] == [record["step"] for record in run.records] == [1, 2]


def test_what_is_not_there(folder):
    assert read_bits(read_run(folder)) is None
    assert count_lines(folder / "bits.jsonl") is None
    assert count_lines(folder / "metrics.jsonl") == 4
    assert checkpoints(folder / "gone") == {}
    assert weights_digest(folder) is None
    with pytest.raises(FileNotFoundError):
        read_run(folder / "gone")


def test_checkpoints_by_step(tmp_path):
    for name in ("step-00000002", "step-00000010", "step-00000003.tmp-1", "other"):
        (tmp_path / name).mkdir()
    found = {step: path.name for step, path in checkpoints(tmp_path).items()}
    assert found == {2: "step-00000002", 10: "step-00000010"}
