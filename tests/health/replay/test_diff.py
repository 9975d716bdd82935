"""loopos diff: one changed bit is found at its step, and a missing step is not a differing one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import loopos
from loopos.cli import main
from loopos.health.replay.diff import diff

CONFIG = loopos.ModelConfig(vocab_size=13, context_length=8, n_layer=1, n_head=2, d_model=8)


def write(folder, records, tail=""):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return folder


def records(steps):
    return [{"step": t, "loss": 3 / (t + 1), "grad_norm": 1 + t / 7, "tokens_per_second": 5.0 * t} for t in steps]


def test_one_bit_is_found_at_its_step(tmp_path):
    changed = records(range(1, 30))
    changed[16]["loss"] = math.nextafter(changed[16]["loss"], 9)
    changed[20]["grad_norm"] = 9.0
    found = diff(write(tmp_path / "a", records(range(1, 30))), write(tmp_path / "b", changed))
    assert (found.step, found.common, found.same) == (17, 29, False)
    assert [name for name, _, _ in found.fields] == ["loss"]
    assert changed[16]["loss"].hex() in str(found)


def test_speed_is_not_compared_and_equal_runs_are_equal(tmp_path):
    fast = [record | {"tokens_per_second": 1e6} for record in records(range(9))]
    found = diff(write(tmp_path / "a", records(range(9))), write(tmp_path / "b", fast))
    assert found.same
    assert "same bits at all 9 steps" in str(found)


def test_missing_steps_are_told_apart_from_differing_ones(tmp_path):
    found = diff(write(tmp_path / "a", records(range(1, 20))), write(tmp_path / "b", records(range(1, 30, 2))))
    assert found.step is None
    assert not found.same
    assert found.only_a == tuple(range(2, 20, 2))
    assert found.only_b == (21, 23, 25, 27, 29)
    assert "only in B: 5 steps (21, 23, 25, 27, 29)" in str(found)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"loss": None}, {"loss": None}, True),
        ({"loss": None}, {"loss": 1.0}, False),
        ({"loss": 0.0}, {"loss": -0.0}, False),
        ({"loss": None, "loss_hex": "nan"}, {"loss": None, "loss_hex": "inf"}, False),
        ({"loss": 1}, {"loss": 1.0}, True),
        ({"loss": 1.0, "eval_loss": 2.0}, {"loss": 1.0}, True),
        ({"loss": 1.0, "learning_rate": 1e-3}, {"loss": 1.0, "learning_rate": 2e-3}, False),
        ({"loss": [1]}, {"loss": {"a": 1}}, False),
    ],
)
def test_what_counts_as_the_same(tmp_path, a, b, same):
    found = diff(write(tmp_path / "a", [{"step": 1} | a]), write(tmp_path / "b", [{"step": 1} | b]))
    assert found.same is same
    str(found)


def test_damaged_lines_are_named(tmp_path):
    found = diff(write(tmp_path / "a", records(range(4)), '{"step": 4, "lo'), write(tmp_path / "b", records(range(4))))
    assert found.same
    assert "A: line 5: it ends in the middle" in str(found)


def test_real_runs_with_checkpoints(tmp_path, capsys):
    ids = np.arange(400) * 7 % 13
    options = {"max_steps": 8, "batch_size": 2, "log_every": 1, "save_every": 2, "progress": False}
    for name, change in (("a", {}), ("b", {}), ("c", {"weight_decay": 0.2}), ("d", {"max_steps": 6})):
        loopos.train(CONFIG, ids, output_dir=tmp_path / name, **options | change)
    a = str(tmp_path / "a")
    assert main(["diff", a, str(tmp_path / "b")]) == 0
    assert main(["diff", a, str(tmp_path / "c")]) == 1
    out = capsys.readouterr().out
    assert "the first step that differs is 2" in out  # the first whose weights were decayed otherwise
    assert "they have no checkpoint of the same step before it" in out  # of step 0 there is none
    assert "to name the operation, the data that both learned are needed" in out
    changed = (tmp_path / "b/metrics.jsonl").read_text().replace('"step": 8, "loss": ', '"step": 8, "loss": 1')
    (tmp_path / "b/metrics.jsonl").write_text(changed)
    assert main(["diff", a, str(tmp_path / "b")]) == 1
    assert "a checkpoint of step 6 before it (the same weights)" in capsys.readouterr().out
    (tmp_path / "c/metrics.jsonl").write_text(changed)
    (tmp_path / "c/bits.jsonl").write_bytes((tmp_path / "b/bits.jsonl").read_bytes())
    assert "weights that differ already" in str(diff(a, tmp_path / "c"))


def test_bad_input_is_exit_code_two(tmp_path, capsys):
    a = str(write(tmp_path / "a", records(range(4))))
    for other in (tmp_path / "gone", write(tmp_path / "late", records(range(7, 9))), write(tmp_path / "empty", [])):
        assert main(["diff", a, str(other)]) == 2
        assert capsys.readouterr().err.startswith("loopos diff: ")
    (tmp_path / "folder" / "metrics.jsonl").mkdir(parents=True)
    assert main(["diff", a, str(tmp_path / "folder")]) == 2


def test_bits_are_compared_at_steps_that_were_not_logged(tmp_path):
    def bits(folder, changed=None):
        lines = [{"step": t, "loss_hex": (3 / (t + 1)).hex(), "grad_norm_hex": "nan"} for t in range(1, 30)]
        lines = [line | {"loss_hex": "0x1.8p-1"} if line["step"] == changed else line for line in lines]
        (folder / "bits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    a, b = (write(tmp_path / name, records([1, 10, 20])) for name in "ab")
    bits(a)
    assert diff(a, b).common == 3  # B has none, so that it is compared by what it has
    bits(b)
    assert (diff(a, b).same, diff(a, b).common) == (True, 29)
    bits(b, changed=7)
    found = diff(a, b)
    assert (found.step, [name for name, _, _ in found.fields]) == (7, ["loss_hex"])
    assert "loss_hex: 0x1.8000000000000p-2 (0.375) in A, 0x1.8p-1 (0.75) in B, 5.0e-01 apart" in str(found)
    assert diff(a / "metrics.jsonl", b).same, "a file that is named is what is compared"
    with open(a / "bits.jsonl", "a") as file:
        file.write("{")
    assert "A: bits.jsonl: line 30: it ends in the middle" in str(diff(a, b))


def test_a_number_is_named_once(tmp_path):
    lines = [{"step": 1, "loss": x, "loss_hex": x.hex()} for x in (1.0, 2.0)]
    found = diff(write(tmp_path / "a", lines[:1]), write(tmp_path / "b", lines[1:]))
    assert [name for name, _, _ in found.fields] == ["loss_hex"]
