"""Weights & Biases, against a module that keeps its rules: the package itself is no dependency of the tests."""

from __future__ import annotations

import json
import sys
import types

import pytest

import loopos
from loopos.callbacks import WandB

CONFIG = loopos.ModelConfig(256, 16, 1, 2, 16)
TEXT = "to be or not to be. " * 30


@pytest.fixture
def wandb(monkeypatch):
    """What wandb.init is called with, and what each run was told. A step that is not beyond the last is refused, where
    the package drops it with a warning."""
    module = types.ModuleType("wandb")
    module.runs = []

    class Run:
        def __init__(self, options):
            self.options, self.logged, self.summary, self.finished = options, [], {}, False
            self.id = options["id"] or f"id{len(module.runs)}"

        def log(self, numbers, step):
            assert all(isinstance(value, float) for value in numbers.values())
            earlier = [s for run in module.runs if run.id == self.id for s, _ in run.logged]
            assert not earlier or step > earlier[-1]
            self.logged.append((step, numbers["train/loss"]))

        def finish(self):
            self.finished = True

    def init(**options):
        module.runs.append(Run(options))
        return module.runs[-1]

    module.init, module.Settings = init, lambda **options: options
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def train(*others, **options):
    options = {"max_steps": 8, "log_every": 1, "progress": False} | options
    return loopos.train(CONFIG, TEXT, callbacks=[WandB("poems"), *others], **options)


def test_the_run_is_offline_and_quiet(wandb, tmp_path):
    result = train(output_dir=tmp_path)
    (run,) = wandb.runs
    assert run.options["mode"] == "offline"
    assert run.options["project"] == "poems"
    assert run.options["dir"] == str(tmp_path)
    assert run.options["settings"] == {"silent": True, "console": "off"}
    assert run.options["config"]["train"]["max_steps"] == 8
    assert run.logged == [(entry["step"], entry["loss"]) for entry in result.history]
    assert run.finished


def test_a_run_that_was_cut_off_and_resumed_has_each_step_once(wandb, tmp_path):
    class Broken:
        def on_step_end(self, info):
            if info["step"] == 6:
                raise RuntimeError("power cut")

    whole = train()
    wandb.runs.clear()
    with pytest.raises(RuntimeError, match="power cut"):
        train(Broken(), output_dir=tmp_path, save_every=4)
    train(output_dir=tmp_path, save_every=4, resume="auto")
    first, second = wandb.runs
    assert first.id == second.id == second.options["id"]
    assert second.options["resume"] == "allow"
    assert [step for step, _ in second.logged] == [6, 7, 8]
    assert first.logged + second.logged == [(entry["step"], entry["loss"]) for entry in whole.history]


def test_a_fresh_run_in_the_same_folder_has_an_id_of_its_own(wandb, tmp_path):
    (tmp_path / "wandb.json").write_text(json.dumps({"id": "old", "step": 99}))
    train(output_dir=tmp_path)
    assert wandb.runs[0].options["id"] is None
    assert len(wandb.runs[0].logged) == 8


def test_findings_are_in_the_summary(wandb):
    with pytest.raises(loopos.NonFiniteError):
        train(learning_rate=3e3, lr_schedule="constant", max_grad_norm=None, optimizer="sgd")
    assert wandb.runs[0].summary["findings"][0].startswith("step ")


def test_bad_arguments_and_a_missing_package(monkeypatch, wandb):
    with pytest.raises(ValueError, match="project must be a name"):
        WandB("")
    with pytest.raises(ValueError, match="mode must be one of 'offline', 'online', 'disabled'"):
        WandB("poems", mode="sometimes")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="WandB needs the package wandb: pip install wandb"):
        WandB("poems")
