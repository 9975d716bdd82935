"""A refused update changes no bit of weights or moments, is counted, logged and kept for a replay."""

from __future__ import annotations

import errno
import json
import math
import os

import numpy as np
import pytest
from spoiling import Spoil

import loopos
from loopos import training
from loopos.run.metrics import read_metrics

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=2, n_head=2, d_model=8, dropout=0.1)
IDS = np.random.default_rng(0).integers(0, 32, 400)
NAME = "blocks.1.attn.o_proj.weight"


@pytest.fixture
def watched(monkeypatch):
    """state() is every bit of the weights and of the optimizer of the latest training."""
    made, real = [], training.for_training

    def making(model, **options):
        made[:] = [(model, real(model=model, **options))]
        return made[0][1]

    monkeypatch.setattr(training, "for_training", making)

    def state():
        model, optimizer = made[0]
        arrays = {**model.parameters(), **optimizer.state_dict()}
        return {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in arrays.items()}

    return state


class Watch:
    """Keeps the state after each step; after those of ``spoilt`` steps writes a value into a weight first."""

    def __init__(self, state, spoilt=(), value=math.nan, heal=False, name=NAME):
        self.state, self.spoilt, self.value, self.heal, self.name = state, spoilt, value, heal, name
        self.after, self.kept = {}, None

    def on_step_end(self, info):
        weight = info["model"].parameters()[self.name].reshape(-1)
        if info["step"] - 1 in self.spoilt:
            assert self.state() == self.after[info["step"] - 1], "the refused update has changed a bit"
            if self.heal:
                weight[0] = self.kept
        if info["step"] in self.spoilt:
            self.kept, weight[0] = weight[0], self.value
        self.after[info["step"]] = self.state()


def train(model=None, data=IDS, **kwargs):
    settings = {"max_steps": 12, "batch_size": 4, "log_every": 1, "progress": False, "learning_rate": 1e-2}
    return loopos.train(loopos.Model(CONFIG) if model is None else model, data, **(settings | kwargs))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize(("name", "value"), [(NAME, math.nan), (NAME, math.inf), ("final_norm.weight", 3e38)])
def test_a_halt_changes_nothing(watched, optimizer, name, value):
    watch = Watch(watched, [5], value, name=name)
    with pytest.raises(loopos.NonFiniteError) as caught:
        train(optimizer=optimizer, callbacks=[watch], max_grad_norm=None, grad_accum=2)
    assert caught.value.birth.step == 6
    assert caught.value.bundle is None
    assert watched() == watch.after[5]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("policy", ["halt", "skip"])
def test_an_update_that_overflows_changes_nothing(watched, optimizer, policy):
    model, states = loopos.Model(CONFIG), []

    class Keep:
        def on_train_begin(self, info):
            states.append(watched())

        def on_step_end(self, info):
            states.append(watched())

    with pytest.raises(loopos.NonFiniteError) as caught:
        train(
            model,
            optimizer=optimizer,
            learning_rate=1e300,
            lr_schedule="constant",
            callbacks=[Keep()],
            on_nonfinite=policy,
        )
    assert (caught.value.birth.step, caught.value.birth.phase) == ({"halt": 1, "skip": 3}[policy], "update")
    assert watched() == states[0]
    assert all(state == states[0] for state in states)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_skip_changes_nothing_and_is_counted(watched, optimizer, tmp_path):
    watch = Watch(watched, [4, 7], heal=True)
    history = train(optimizer=optimizer, on_nonfinite="skip", callbacks=[watch], output_dir=tmp_path / "run").history
    assert [line["skipped"] for line in history] == [0] * 4 + [1] * 3 + [2] * 5
    assert [line["nonfinite"] for line in history] == [line["skipped"] for line in history]
    assert [line["attempted"] for line in history] == list(range(1, 13))
    assert all(line["applied"] == line["attempted"] - line["skipped"] for line in history)
    assert not (tmp_path / "run/bundles").exists(), "what was survived leaves no bundle"


@pytest.mark.parametrize("policy", ["skip", "rewind"])
def test_an_exhausted_policy_leaves_the_state_before_the_step_and_a_bundle(watched, policy, tmp_path):
    states = {}

    class Spoilt:
        def on_step_end(self, info):
            if info["step"] >= 2:
                info["model"].parameters()[NAME][0, 0] = math.inf
            states[info["step"]] = watched()

    with pytest.raises(loopos.NonFiniteError, match="3 updates in a row") as caught:
        train(on_nonfinite=policy, callbacks=[Spoilt()], output_dir=tmp_path / "run")
    assert caught.value.birth.step == 5
    assert watched() == states[4]
    found = loopos.replay(caught.value.bundle)
    assert found.reproduced
    assert (found.step, found.birth.tensor) == (5, NAME)


class Stay:
    def __init__(self, step):
        self.step = step

    def on_step_end(self, info):
        if info["step"] == self.step:
            info["model"].parameters()[NAME][0, 0] = math.inf


def test_clipped_updates_are_counted():
    history = train(max_grad_norm=1e-3).history
    assert [line["clipped"] for line in history] == list(range(1, 13))
    assert train(max_grad_norm=None).history[-1]["clipped"] == 0
    assert train(max_grad_norm=1e9).history[-1]["clipped"] == 0


def test_a_step_without_a_target_is_skipped_but_finite():
    class Masked:
        def batch(self, step, micro):
            ids = np.random.default_rng(step).integers(0, 32, (2, 8))
            return ids, np.full_like(ids, -100) if step == 3 else ids

    last = train(data=Masked()).history[-1]
    assert {name: last[name] for name in ("attempted", "applied", "skipped", "nonfinite")} == {
        "attempted": 12,
        "applied": 11,
        "skipped": 1,
        "nonfinite": 0,
    }


def test_a_full_disk_hides_nothing(tmp_path, monkeypatch):
    real = os.write

    def full(fd, data):
        if "bundles" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(loopos.NonFiniteError, match=r"No bundle .* could be written: .*No space left") as caught:
        train(callbacks=[Stay(2)], output_dir=tmp_path / "run")
    assert (caught.value.birth.step, caught.value.bundle) == (3, None)
    assert os.listdir(tmp_path / "run/bundles") == []


def test_a_callback_is_not_a_failed_update(tmp_path):
    """The weight is spoilt after the last step: the final checkpoint is refused, and there is no step to repeat."""
    with pytest.raises(loopos.NonFiniteError, match="no checkpoint is written") as caught:
        train(callbacks=[Stay(12)], output_dir=tmp_path / "run")
    assert caught.value.bundle is None
    assert not (tmp_path / "run/bundles").exists()


# Rewind cuts the rate


def test_a_rewind_halves_the_rate_and_no_further_than_an_eighth():
    settings = {"on_nonfinite": "rewind", "lr_schedule": "constant", "max_steps": 500, "log_every": 1}
    history = train(callbacks=[Spoil(NAME, 12, 20, 33, 40, 51)], learning_rate=0.01, **settings).history
    rates = [line["learning_rate"] for line in history]
    assert [rates[step - 1] for step in (13, 14, 21, 22, 34, 35, 41, 42, 52, 53, 500)] == [
        0.01,
        0.005,
        0.005,
        0.0025,
        0.0025,
        0.00125,
        0.00125,
        0.00125,
        0.00125,
        0.00125,
        0.00125,
    ]


def test_resume_keeps_the_cut_the_counts_and_the_bits(tmp_path, stop_after):
    settings = {"on_nonfinite": "rewind", "max_steps": 30, "max_grad_norm": 0.5}
    whole = train(callbacks=[Spoil(NAME, 4, 14)], output_dir=tmp_path / "whole", **settings)
    train(callbacks=[Spoil(NAME, 4, 14), stop_after(17)], output_dir=tmp_path / "run", **settings)
    rest = train(output_dir=tmp_path / "run", resume="auto", **settings)
    timed = {"tokens_per_second"}
    assert [{k: v for k, v in line.items() if k not in timed} for line in rest.history] == [
        {k: v for k, v in line.items() if k not in timed} for line in whole.history[17:]
    ]
    last = rest.history[-1]
    assert (last["attempted"], last["applied"], last["skipped"], last["nonfinite"]) == (30, 28, 2, 2)
    for name, view in whole.model.parameters().items():
        assert view.tobytes() == rest.model.parameters()[name].tobytes()
    assert (tmp_path / "run/bits.jsonl").read_bytes() == (tmp_path / "whole/bits.jsonl").read_bytes()


# bits.jsonl


def test_every_step_has_its_bits_whatever_log_every_is(tmp_path):
    every = train(grad_accum=2).history
    train(grad_accum=2, log_every=5, output_dir=tmp_path / "run")
    records = read_metrics(tmp_path / "run/bits.jsonl")
    assert [record["step"] for record in records] == list(range(1, 13))
    for line, record in zip(every, records, strict=True):
        assert (line["loss"].hex(), line["grad_norm"].hex()) == (record["loss_hex"], record["grad_norm_hex"])
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 4


def test_bits_are_cut_back_on_resume_and_those_of_another_run_are_moved(tmp_path, stop_after):
    run = tmp_path / "run"
    train(output_dir=run, save_every=4, callbacks=[stop_after(10)])
    whole = (run / "bits.jsonl").read_bytes()
    middle = run / "step-00000004"
    train(output_dir=run, resume=middle, callbacks=[stop_after(6)])
    assert whole.startswith((run / "bits.jsonl").read_bytes())
    assert [json.loads(line)["step"] for line in (run / "bits.jsonl").read_bytes().splitlines()] == [1, 2, 3, 4, 5, 6]
    with pytest.warns(UserWarning, match="another run"):
        train(output_dir=run, seed=5)
    assert (run / "bits.jsonl.old").read_bytes() == whole[: len((run / "bits.jsonl.old").read_bytes())]
    with open(run / "bits.jsonl", "ab") as file:
        file.write(b'{"step": 13, "lo')
    with pytest.warns(RuntimeWarning, match=r"bits\.jsonl: 1 damaged"):
        train(output_dir=run, seed=5, resume="auto", max_steps=14)
    assert [record["step"] for record in read_metrics(run / "bits.jsonl")] == list(range(1, 15))


def test_a_step_that_ends_the_run_is_in_the_bits(tmp_path):
    with pytest.raises(loopos.NonFiniteError):
        train(callbacks=[Stay(2)], output_dir=tmp_path / "run")
    assert read_metrics(tmp_path / "run/bits.jsonl")[-1] == {"step": 3, "loss_hex": "nan", "grad_norm_hex": "nan"}


def test_a_step_that_ends_the_run_is_in_the_log_and_in_no_history(tmp_path):
    ended = []

    class End:
        def on_train_end(self, info):
            ended.append([line["step"] for line in info["history"]])

    with pytest.raises(loopos.NonFiniteError) as caught:
        train(callbacks=[Stay(2), End()], output_dir=tmp_path / "run", log_every=5)
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert lines[-1]["step"] == 3
    assert lines[-1]["loss"] is None
    assert lines[-1]["birth"] == str(caught.value.birth)
    assert (lines[-1]["nonfinite"], lines[-1]["attempted"], lines[-1]["skipped"]) == (1, 3, 1)
    assert ended == [[1]]
