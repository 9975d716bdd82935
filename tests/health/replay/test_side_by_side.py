"""Two runs that part: done again side by side, the first update, input and operation that differ are named."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

import loopos
from loopos import testing
from loopos.cli import main
from loopos.health.replay import side_by_side
from loopos.health.replay.diff import diff
from loopos.health.replay.rerun import Rerun
from loopos.health.replay.side_by_side import first_input
from loopos.run.bundle import Bundle
from loopos.run.checkpoint import load_checkpoint

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=8, n_layer=2, n_head=2, d_model=8, dropout=0.1)
TEXT = b"she sells sea shells by the sea shore, and so on. " * 8
SETTINGS = {"max_steps": 10, "batch_size": 3, "grad_accum": 2, "save_every": 3, "log_every": 100, "progress": False}


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


def recomputed(step, start="its checkpoint", a="gives", b="gives"):
    pairs = (("A", a), ("B", b))
    return tuple(f"step {step} of {x}, done again here from {start}, {y} the bits that it recorded" for x, y in pairs)


def test_one_unit_in_the_last_place_is_found_at_its_step_in_its_tensor_and_in_what_reads_it(a, tmp_path):
    b = run(tmp_path / "b", callbacks=[Nudge(6)])
    found = diff(a, b)
    assert (found.step, found.checkpoint, found.weights_equal, found.causes) == (7, 6, False, ())
    assert "--data" in str(found)
    found = diff(a, b, data=TEXT)
    assert found.causes[:2] == recomputed(7)
    assert "first in a weight before the step: blocks.1.mlp.up_proj.weight[0, 5] = " in found.causes[2]
    reads_it = r"op linear \(forward pass, block 1, micro-batch \d\): blocks\.1\.mlp\.up_proj\.y\[\d, \d, 0\] = "
    first = "the first operation whose result differs, in step 7, is "
    assert re.match(first + reads_it, found.causes[3]), found.causes[3]
    assert found.causes[3] in str(found)
    assert found.lacking == ""


def test_the_step_before_the_first_that_shows_is_found(tmp_path):
    """What an update did is in no loss before the next step."""
    b = run(tmp_path / "b", max_steps=6, lr_schedule="constant")
    a = run(tmp_path / "c", lr_schedule="constant")
    for folder in (a, b):
        assert (folder / "step-00000006").is_dir()
    with pytest.warns(UserWarning, match=r"max_grad_norm is 0\.01 here"):
        run(b, resume="auto", lr_schedule="constant", max_grad_norm=0.01)
    found = diff(a, b, data=TEXT)
    assert (found.step, found.checkpoint, found.weights_equal) == (8, 6, True)
    first = "both start step 7 from the same bits; the first operation whose result differs, in step 7, is op adamw"
    assert f"done again here, {first} (update): tok_embed.weight[" in found.causes[-1]
    assert "; what clipping multiplies the gradient by is " in found.causes[-1]


def test_where_there_is_no_checkpoint_the_seed_will_do(tmp_path):
    settings = {"save_every": None, "max_steps": 5}
    a, b = run(tmp_path / "a", **settings), run(tmp_path / "b", **settings, callbacks=[Nudge(2)])
    found = diff(a, b, data=TEXT)
    assert (found.step, found.checkpoint) == (3, None)
    # nobody did again what the callback did
    assert found.causes[:2] == recomputed(3, "its seed", b="does not give")
    assert "done again here, both are the same" in found.causes[2]
    decayed = run(tmp_path / "c", **settings, weight_decay=0.2)
    found = diff(a, decayed, data=TEXT)
    assert found.causes[1:3] == recomputed(2, "its seed")  # where it shows, which bears out what was found before
    assert "start step 1 from the same bits" in found.causes[3]
    assert "is op adamw (update): " in found.causes[3]
    assert found.causes[3].endswith("; weight_decay is 0.1 in A, 0.2 in B")


def test_weights_that_are_not_those_of_the_seed_are_noticed(tmp_path):
    settings = SETTINGS | {"save_every": None, "max_steps": 4}
    for name, more in (("a", {}), ("b", {"callbacks": [Nudge(2)]})):
        loopos.train(loopos.Model(CONFIG, seed=5), TEXT, output_dir=tmp_path / name, **settings, **more)
    found = diff(tmp_path / "a", tmp_path / "b", data=TEXT)
    assert found.causes[:2] == recomputed(1, "its seed", "does not give", "does not give")
    assert re.match("either a run .* did not begin with the weights of its seed, or its settings", found.causes[2])


def test_settings_that_a_resume_changed_are_not_taken_for_those_of_the_beginning(tmp_path):
    """Without a checkpoint from after the resume, the last settings are all that is known; they did not do step 1."""
    settings = {"save_every": None, "lr_schedule": "constant"}
    a, b = (run(tmp_path / name, **settings, max_steps=3) for name in "ab")
    shutil.rmtree(b / "step-00000003")
    run(b, **settings, max_steps=6)
    run(a, **settings, max_steps=6, resume="auto", learning_rate=1.0)
    found = diff(a, b, data=TEXT)
    assert (found.step, found.checkpoint) == (5, None)
    assert not any("the first operation" in cause for cause in found.causes)
    assert "its settings were changed when it was resumed" in found.causes[-1]


def test_a_run_that_was_refused_is_compared_with_one_that_was_not(tmp_path):
    settings = {"lr_schedule": "constant", "max_steps": 4}
    b = run(tmp_path / "b", **settings)
    with pytest.raises(loopos.NonFiniteError):
        run(tmp_path / "a", **settings, learning_rate=1e39)
    found = diff(tmp_path / "a", b, data=TEXT)
    assert found.step == 1
    assert found.causes[0] == "learning_rate is 1e+39 in A, 0.0003 in B"
    assert re.match(r"step 1 of A, done again here, is refused: op adamw \(update\), ", found.causes[-1])


def test_what_is_lacking_is_said(a, tmp_path, monkeypatch):
    monkeypatch.setattr("loopos.health.replay.diff.FROM_SEED", 1)
    found = diff(a, run(tmp_path / "b", callbacks=[Nudge(1)]), data=TEXT)
    assert (found.step, found.checkpoint) == (2, None)
    assert "stop them at step 2" in found.lacking
    assert "save_every=1" in str(found)
    for folder in (a, tmp_path / "b"):
        for path in folder.glob("step-*"):
            shutil.rmtree(path)
    assert "both need a checkpoint" in diff(a, tmp_path / "b", data=TEXT).lacking


def test_a_fault_that_struck_once_is_told_apart_from_the_computation(a, tmp_path):
    model = loopos.Model(CONFIG, seed=1337)
    with testing.planted(model, "blocks.1.attn.o_proj.y", (1, 4, 3), 0.5, step=8):
        loopos.train(model, TEXT, output_dir=tmp_path / "b", **SETTINGS)
    found = diff(a, tmp_path / "b", data=TEXT)
    assert (found.step, found.checkpoint, found.weights_equal) == (8, 6, True)
    assert found.causes[:2] == recomputed(8, b="does not give")
    assert "both are the same: a run whose bits are not given here was computed by another build" in found.causes[2]


def test_a_fault_that_is_there_again_is_named(a, tmp_path, monkeypatch):
    """As a wrong kernel would be."""
    place = ("blocks.1.attn.o_proj.y", (1, 4, 3), 0.5)
    model = loopos.Model(CONFIG, seed=1337)
    with testing.planted(model, *place, step=8, micro_batch=1):
        loopos.train(model, TEXT, output_dir=tmp_path / "b", **SETTINGS)
    faulty = []

    class Faulty(loopos.Model):
        """Every second model, which is that of B, has the fault."""

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            if len(faulty) % 2:
                with_fault = testing.planted(self, *place, step=8, micro_batch=1)
                with_fault.__enter__()
                faulty.append(with_fault)
            else:
                faulty.append(None)

    monkeypatch.setattr("loopos.health.replay.rerun.Model", Faulty)
    monkeypatch.setattr("loopos.run.language.Model", Faulty)
    found = diff(a, tmp_path / "b", data=TEXT)
    assert found.causes[:2] == recomputed(8)
    where = "op linear (forward pass, block 1, micro-batch 1): blocks.1.attn.o_proj.y[1, 4, 3] = "
    assert "both start step 8 from the same bits" in found.causes[2]
    assert where in found.causes[2]
    assert found.causes[2].endswith(" in A, 0.5 in B")


def test_which_of_two_records_this_machine_computes(a, tmp_path):
    b = shutil.copytree(a, tmp_path / "b")
    lines = (b / "bits.jsonl").read_text().splitlines()
    record = json.loads(lines[7])
    record["loss_hex"] = np.nextafter(float.fromhex(record["loss_hex"]), 9).item().hex()
    (b / "bits.jsonl").write_text("\n".join([*lines[:7], json.dumps(record), *lines[8:]]) + "\n")
    found = diff(a, b, data=TEXT)  # as if the other run had been on a faulty machine
    assert (found.step, [name for name, _, _ in found.fields], found.checkpoint) == (8, ["loss_hex"], 6)
    assert found.causes[:2] == recomputed(8, b="does not give")
    assert found.causes[2].startswith("done again here, both are the same: ")


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


def test_batches_of_another_shape_are_not_compared_further(a, tmp_path):
    found = diff(a, run(tmp_path / "b", batch_size=2), data=TEXT)
    shape = "done again here, step 1 differs in the shape of ids of micro-batch 0: (3, 8) in A, (2, 8) in B"
    assert found.causes == ("batch_size is 3 in A, 2 in B", shape)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("the batch: micro-batch 1, targets[0, 1] = ", lambda b: {"batches": _with(b, 1, 1)}),
        ("the batch: micro-batch 0, ids[0, 1] = ", lambda b: {"batches": _with(b, 0, 0)}),
        ("a weight before the step: pos_embed.weight[0, 1] = ", lambda b: {"weights": _nudged(b.weights)}),
        ("a moment before the step: exp_avg.final_norm.bias[3] = ", lambda b: {"moments": _negated(b.moments)}),
        ("the number of micro-batches", lambda b: {"batches": b.batches[:1]}),
        ("the model's configuration", lambda b: {"config": dataclasses.replace(b.config, norm_eps=1e-6)}),
        (None, lambda b: {"settings": dataclasses.replace(b.settings, seed=9)}),
        (None, lambda b: {}),
    ],
)
def test_the_first_input_that_differs(a, what, change):
    bundle = Rerun(load_checkpoint(a / "step-00000006"), TEXT).bundle()
    other: Bundle = dataclasses.replace(bundle, **change(bundle))
    found = first_input(bundle, other)
    assert found is None if what is None else found.startswith(what)


def _with(bundle, micro, part):
    batches = [[x.copy() for x in pair] for pair in bundle.batches]
    batches[micro][part][0, 1] ^= 1
    return [tuple(pair) for pair in batches]


def _nudged(weights):
    changed = {name: array.copy() for name, array in weights.items()}
    changed["pos_embed.weight"][0, 1] = np.nextafter(changed["pos_embed.weight"][0, 1], np.float32(9))
    return changed


def _negated(moments):
    changed = {name: array.copy() for name, array in moments.items()}
    changed["exp_avg.final_norm.bias"][3] *= -1
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


def test_what_cannot_be_read_takes_no_answer_away(a, tmp_path):
    b = run(tmp_path / "b", callbacks=[Nudge(6)])
    for folder in b.glob("step-*"):
        (folder / "state.json").write_text("{")
    found = diff(a, b, data=TEXT)
    assert found.step == 7
    assert found.causes == ("state.json of B cannot be read",)
    assert found.lacking.startswith("to name the operation, a checkpoint is needed that can be read: ")


class Batches:
    """The same ids in every run; micro-batch 0 of step 2 has targets or none."""

    def __init__(self, targets):
        self.targets = targets

    def batch(self, step, micro):
        ids = np.random.default_rng([step, micro]).integers(0, 256, (3, 8))
        return ids, np.where((step == 2) & (micro == 0) & (not self.targets), -100, np.roll(ids, -1, axis=1))


def test_a_micro_batch_that_only_one_computes_is_named_and_not_paired(tmp_path):
    for name, targets in (("a", True), ("b", False)):
        loopos.train(CONFIG, Batches(targets), output_dir=tmp_path / name, **SETTINGS | {"max_steps": 4})
    reruns = [
        Rerun(load_checkpoint(next((tmp_path / name).glob("step-*"))), Batches(targets), from_seed=True)
        for name, targets in (("a", True), ("b", False))
    ]
    (cause,) = side_by_side.recompute(*reruns, 3, ({}, {}))
    assert cause.startswith("done again here, step 3 differs in the batch: micro-batch 0, targets[0, 0] = ")


def test_a_step_that_no_run_has_is_told(a):
    rerun = Rerun(load_checkpoint(next(a.glob("step-*"))), TEXT, from_seed=True)
    assert side_by_side.recompute(rerun, rerun, 0, ({}, {})) == ("step 0 is not one that can be done again",)


def test_a_text_that_was_edited_since_takes_no_comparison_away(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_bytes(TEXT * 20)
    model = [
        "--n-layer",
        "1",
        "--n-head",
        "1",
        "--d-model",
        "8",
        "--context-length",
        "8",
        "--no-doctor",
        "--no-progress",
    ]
    for name, rate in (("a", "0.01"), ("b", "0.02")):
        folder = str(tmp_path / name)
        more = ["--max-steps", "3", "--learning-rate", rate, "--output-dir", folder, "--save-every", "1"]
        assert main(["train", str(text), *model, *more]) == 0
    text.write_bytes(TEXT * 21)
    capsys.readouterr()
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    out = capsys.readouterr().out
    assert "the first step that differs is " in out
    assert "the text that `loopos train` noted has changed since" in out
