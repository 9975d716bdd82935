"""Two runs that part: the step is found by its bits and done again from both; the first thing that differs is named."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

import loopos
from loopos.bundle import Bundle, Outcome
from loopos.checkpoint import load_checkpoint
from loopos.cli import main
from loopos.health.diff import diff
from loopos.health.parting import first_difference, update_after
from loopos.health.replay import Repeater

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=8, n_layer=2, n_head=2, d_model=8, dropout=0.1)
TEXT = b"she sells sea shells by the sea shore, and so on. " * 8
SETTINGS = {"max_steps": 10, "batch_size": 3, "grad_accum": 2, "save_every": 3, "log_every": 100, "progress": False}


class Spoil:
    def on_step_end(self, info):
        if info["step"] == 4:
            info["model"].parameters()["pos_embed.weight"][...] = np.nan


class Nudge:
    """Changes one weight by one unit in the last place after ``step``."""

    def __init__(self, step, name="blocks.1.mlp.up_proj.weight"):
        self.step, self.name = step, name

    def on_step_end(self, info):
        if info["step"] == self.step:
            flat = info["model"].parameters()[self.name].reshape(-1)
            flat[5] = np.nextafter(flat[5], np.float32(9))


def run(folder, **changed):
    loopos.train(CONFIG, TEXT, output_dir=folder, **(SETTINGS | changed))
    return folder


@pytest.fixture
def a(tmp_path):
    return run(tmp_path / "a")


def test_equal_runs_are_equal_at_every_step_whatever_was_logged(a, tmp_path):
    found = diff(a, run(tmp_path / "b", log_every=1, threads=3))
    assert found.same
    assert found.common == 10


def test_one_unit_in_the_last_place_is_found_at_its_step_and_in_its_tensor(a, tmp_path):
    b = run(tmp_path / "b", callbacks=[Nudge(6)])
    found = diff(a, b)
    assert (found.step, found.checkpoint, found.weights_equal, found.causes) == (7, 6, False, ())
    found = diff(a, b, data=TEXT)
    assert found.causes[:2] == tuple(
        f"step 7 of {name}, done again here from its checkpoint, gives the bits that it recorded" for name in "AB"
    )
    assert "first in a weight before the step: blocks.1.mlp.up_proj.weight[0, 5] = " in found.causes[2]
    assert found.causes[2] in str(found)


def test_which_of_two_records_this_machine_computes(a, tmp_path):
    b = shutil.copytree(a, tmp_path / "b")
    lines = (b / "bits.jsonl").read_text().splitlines()
    record = json.loads(lines[7])
    record["loss_hex"] = np.nextafter(float.fromhex(record["loss_hex"]), 9).item().hex()
    (b / "bits.jsonl").write_text("\n".join([*lines[:7], json.dumps(record), *lines[8:]]) + "\n")
    found = diff(a, b, data=TEXT)  # as if the other run had been on a faulty machine
    assert (found.step, [name for name, _, _ in found.fields], found.checkpoint) == (8, ["loss_hex"], 6)
    assert found.causes == (
        "step 8 of A, done again here from its checkpoint, gives the bits that it recorded",
        "step 8 of B, done again here from its checkpoint, does not give the bits that it recorded",
        "done again here, both are the same",
    )


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"weight_decay": 0.2}, "weight_decay is 0.1 in A, 0.2 in B"),
        ({"max_grad_norm": None}, "max_grad_norm is 1.0 in A, None in B"),
        ({"seed": 5}, "seed is 1337 in A, 5 in B"),
    ],
)
def test_other_settings_are_named(a, tmp_path, changed, sentence):
    found = diff(a, run(tmp_path / "b", **changed))
    assert found.causes == (sentence,)


def test_other_data_are_named_and_not_done_again(a, tmp_path):
    loopos.train(CONFIG, TEXT[::-1], output_dir=tmp_path / "b", **SETTINGS)
    found = diff(a, tmp_path / "b", data=TEXT)
    assert len(found.causes) == 1
    assert found.causes[0].startswith("the data's sha256 is ")
    b = run(tmp_path / "c", callbacks=[Nudge(6)])
    with pytest.raises(ValueError, match=r"not those that .*a was trained on"):
        diff(a, b, data=TEXT[::-1])


def test_the_update_done_again_is_the_one_of_the_run(a):
    """Also with steps between checkpoint and update."""
    lines = [json.loads(line) for line in (a / "bits.jsonl").read_text().splitlines()]
    for step in (7, 8, 10):
        bundle = update_after(load_checkpoint(a / "step-00000006"), step, TEXT)
        assert (bundle.outcome.loss, bundle.outcome.grad_norm) == (
            lines[step - 1]["loss_hex"],
            lines[step - 1]["grad_norm_hex"],
        )


def test_so_is_that_of_a_run_whose_rate_was_cut(tmp_path):
    folder = run(tmp_path / "r", on_nonfinite="rewind", callbacks=[Spoil()])
    lines = [json.loads(line) for line in (folder / "bits.jsonl").read_text().splitlines()]
    assert lines[4]["loss_hex"] == "nan"
    for step in (7, 8, 10):
        outcome = update_after(load_checkpoint(folder / "step-00000006"), step, TEXT).outcome
        assert (outcome.loss, outcome.grad_norm) == (lines[step - 1]["loss_hex"], lines[step - 1]["grad_norm_hex"])


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("the batch: micro-batch 1, targets[0, 1] = ", lambda b: {"batches": _with(b, 1, 1)}),
        ("the batch: micro-batch 0, ids[0, 1] = ", lambda b: {"batches": _with(b, 0, 0)}),
        ("a weight before the step: pos_embed.weight[0, 1] = ", lambda b: {"weights": _nudged(b.weights)}),
        ("the loss: ", lambda b: {"settings": dataclasses.replace(b.settings, seed=9)}),
        ("the learning rate: ", lambda b: {"learning_rate": b.learning_rate / 2}),
        ("the number of micro-batches", lambda b: {"batches": b.batches[:1]}),
        ("the model's configuration", lambda b: {"config": dataclasses.replace(b.config, norm_eps=1e-6)}),
        (None, lambda b: {}),
    ],
)
def test_the_first_thing_that_differs(a, what, change):
    bundle = update_after(load_checkpoint(a / "step-00000006"), 7, TEXT)
    other: Bundle = dataclasses.replace(bundle, **change(bundle))
    if what == "the loss: ":
        other = dataclasses.replace(other, outcome=Outcome.of(Repeater(other).update()))
    found = first_difference(bundle, other)
    assert found is None if what is None else found.startswith(what)


def test_a_moment_and_a_gradient(a):
    bundle = update_after(load_checkpoint(a / "step-00000006"), 7, TEXT)
    moments = {name: array.copy() for name, array in bundle.moments.items()}
    moments["exp_avg.final_norm.bias"][3] = -0.0
    found = first_difference(bundle, dataclasses.replace(bundle, moments=moments))
    assert found.startswith("a moment before the step: exp_avg.final_norm.bias[3] = ")
    other = dataclasses.replace(bundle, settings=dataclasses.replace(bundle.settings, seed=9))
    assert first_difference(bundle, other).startswith("a gradient: final_norm.")  # the last one is ready first


def _with(bundle, micro, part):
    batches = [[x.copy() for x in pair] for pair in bundle.batches]
    batches[micro][part][0, 1] ^= 1
    return [tuple(pair) for pair in batches]


def _nudged(weights):
    changed = {name: array.copy() for name, array in weights.items()}
    changed["pos_embed.weight"][0, 1] = np.nextafter(changed["pos_embed.weight"][0, 1], np.float32(9))
    return changed


def test_the_command_finds_the_text_that_train_noted(tmp_path, capsys):
    (tmp_path / "text").write_bytes(TEXT)
    small = ["--n-layer", "1", "--n-head", "1", "--d-model", "8", "--context-length", "8", "--sample", "0"]
    common = [*small, "--max-steps", "6", "--save-every", "2", "--no-progress", "--warmup-steps", "0"]
    for name, more in (("a", []), ("b", ["--max-grad-norm", "0.5"])):
        assert main(["train", str(tmp_path / "text"), "--output-dir", str(tmp_path / name), *common, *more]) == 0
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    lines = (tmp_path / "c/bits.jsonl").read_text().splitlines()
    damaged = lines[4].replace('"loss_hex": "0x1.', '"loss_hex": "0x1.0')
    (tmp_path / "c/bits.jsonl").write_text("\n".join([*lines[:4], damaged, *lines[5:]]) + "\n")
    capsys.readouterr()
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "c")]) == 1
    assert "step 5 of A, done again here from its checkpoint, gives the bits" in capsys.readouterr().out
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "max_grad_norm is 1.0 in A, 0.5 in B" in capsys.readouterr().out
    (tmp_path / "text").unlink()
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "c")]) == 1
    assert "done again" not in capsys.readouterr().out
