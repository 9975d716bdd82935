"""The benchmark compares like with like: same split, same model, every held-out token scored once by both engines."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SETTING = runpy.run_path(str(BENCHMARKS / "nano_setting.py"))


@pytest.mark.parametrize("length", [2, 64, 65, 66, 129, 64 * 64 * 2 + 1, 64 * 64 * 2 + 40])
def test_every_held_out_token_but_the_first_is_a_target_once(length):
    ids = np.arange(length)
    batches = list(SETTING["held_out_windows"](ids))
    assert np.concatenate([targets.ravel() for _, targets in batches]).tolist() == list(range(1, length))
    for x, y in batches:
        assert x.shape == y.shape
        assert np.array_equal(x + 1, y)
        assert x.shape[0] <= SETTING["EVAL_BATCH"]
        assert x.shape[1] <= SETTING["BLOCK"]


def test_the_split_keeps_the_last_tenth_and_the_vocabulary_is_of_the_whole(tmp_path):
    (tmp_path / "text").write_text("abc" * 30 + "dé" * 5, encoding="utf-8")
    train, held_out, vocab_size = SETTING["characters"](tmp_path / "text")
    assert train.tolist() == [0, 1, 2] * 30
    assert held_out.tolist() == [3, 4] * 5
    assert vocab_size == 5


@pytest.mark.reference
def test_both_programs_run_and_do_the_same_job(tmp_path):
    pytest.importorskip("torch")
    text = tmp_path / "text"
    text.write_text("to be or not to be, that is the question. " * 60, encoding="utf-8")
    command = [sys.executable, str(BENCHMARKS / "nano.py"), str(text), "--steps", "3", "--rounds", "1"]
    beside = os.pathsep.join(filter(None, [str(Path(loopos.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": beside}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    ours, theirs = (json.loads(line) for line in lines[:2])
    assert ours["engine"].startswith("loopos ")
    assert theirs["engine"].startswith("torch ")
    for key in ("threads", "steps", "parameters", "eval_tokens"):
        assert ours[key] == theirs[key], key
    uniform = np.log(len(set(text.read_text())))
    assert abs(ours["eval_loss"] - uniform) < 0.3  # three steps of warm-up: hardly away from a uniform guess
    assert abs(theirs["eval_loss"] - uniform) < 0.3
    assert "torch / loopos" in lines[-1]
