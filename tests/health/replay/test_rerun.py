"""A run done again update by update has the bits of the run, from a checkpoint, from its seed, and after a rewind."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loopos
from loopos.errors import CheckpointError
from loopos.health.replay.rerun import Rerun
from loopos.run.checkpoint import load_checkpoint

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=8, n_layer=1, n_head=2, d_model=8, dropout=0.1)
TEXT = b"she sells sea shells by the sea shore, and so on. " * 8
SETTINGS = {"max_steps": 10, "batch_size": 3, "grad_accum": 2, "save_every": 3, "progress": False, "seed": 4}


class Spoil:
    def on_step_end(self, info):
        if info["step"] == 4:
            info["model"].parameters()["pos_embed.weight"][...] = np.nan


def recorded(folder):
    return [json.loads(line) for line in (folder / "bits.jsonl").read_text().splitlines()]


def same_bits(update, line):
    return (float(update.loss).hex(), float(update.grad_norm).hex()) == (line["loss_hex"], line["grad_norm_hex"])


def test_every_update_is_the_one_of_the_run(tmp_path):
    result = loopos.train(CONFIG, TEXT, output_dir=tmp_path, **SETTINGS)
    lines = recorded(tmp_path)
    for from_seed in (False, True):
        rerun = Rerun(load_checkpoint(tmp_path / "step-00000006"), TEXT, from_seed=from_seed)
        assert rerun.step == (0 if from_seed else 6)
        for line in lines[rerun.step :]:
            bundle = rerun.bundle()
            assert (bundle.step, rerun.step) == (line["step"], line["step"] - 1)
            assert same_bits(rerun.advance(), line)
            assert not all(np.array_equal(rerun.model.parameters()[n], x) for n, x in bundle.weights.items())
        for name, weight in result.model.parameters().items():
            assert np.array_equal(rerun.model.parameters()[name], weight)


def test_so_is_that_of_a_run_whose_rate_was_cut(tmp_path):
    loopos.train(CONFIG, TEXT, output_dir=tmp_path, **SETTINGS, on_nonfinite="rewind", callbacks=[Spoil()])
    lines = recorded(tmp_path)
    assert lines[4]["loss_hex"] == "nan"
    rerun = Rerun(load_checkpoint(tmp_path / "step-00000006"), TEXT)
    assert all(same_bits(rerun.advance(), line) for line in lines[6:])


def test_what_cannot_be_done_again_is_said(tmp_path):
    loopos.train(CONFIG, TEXT, output_dir=tmp_path, **SETTINGS)
    checkpoint = load_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"not those that .* was trained on"):
        Rerun(checkpoint, TEXT[::-1])
    del checkpoint.state["settings"]
    with pytest.raises(CheckpointError, match=r"not of a run of loopos\.train"):
        Rerun(checkpoint, TEXT)


def test_a_classifiers_updates_are_done_again(tmp_path):
    rows = [{"text": "ab"[i % 2] * (i % 4 + 1), "label": i % 2} for i in range(12)]
    loopos.train(CONFIG, rows, task="classify", output_dir=tmp_path, **SETTINGS)
    lines = recorded(tmp_path)
    for from_seed in (False, True):
        rerun = Rerun(load_checkpoint(tmp_path / "step-00000006"), rows, from_seed=from_seed)
        assert all(same_bits(rerun.advance(), line) for line in lines[rerun.step :])
