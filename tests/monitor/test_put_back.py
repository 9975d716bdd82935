"""loopos/monitor/put_back.py: weights that somebody puts back are told once; no sound run raises an alarm."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loopos
from loopos.monitor.put_back import PutBack

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=2, n_head=2, d_model=16)
IDS = np.random.default_rng(0).integers(0, 32, 999)


class Freezing:
    """What people write to freeze a block: its weights are copied back after each step."""

    def __init__(self, part):
        self.part = part

    def on_train_begin(self, info):
        self.kept = {name: view.copy() for name, view in info["model"].parameters().items() if self.part in name}

    def on_step_end(self, info):
        for name, value in self.kept.items():
            info["model"].parameters()[name][...] = value


def train(**settings):
    settings = {"max_steps": 30, "batch_size": 4, "learning_rate": 1e-3, "progress": False} | settings
    return loopos.train(CONFIG, IDS, **settings)


def alarms(result):
    return [alarm for alarm in result.findings if alarm.name == "weights_put_back"]


@pytest.mark.parametrize("log_every", [1, 10])
def test_a_block_that_a_callback_freezes_is_told_once(log_every):
    (alarm,) = alarms(train(callbacks=[Freezing("blocks.0.")], log_every=log_every))
    assert alarm.step == (2 if log_every == 1 else 10)
    assert alarm.value == 4
    assert "blocks.0.attn.qkv_proj.weight and 3 more matrices are bit for bit where step 1 found it" in alarm.sentence
    assert "something puts weights back (a callback?)" in alarm.sentence


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"learning_rate": 0.0},
        {"learning_rate": 1e-9},
        {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0},
        {"warmup_steps": 30},
        {"weight_decay": 0.0, "batch_size": 1},
    ],
    ids=str,
)
def test_a_sound_run_has_no_alarm(settings):
    assert alarms(train(log_every=1, **settings)) == []


def test_what_a_rewind_puts_back_is_no_alarm():
    class Spoils:
        """A number in the data's place that ends one update."""

        def on_step_end(self, info):
            if info["step"] == 7:
                self.kept = info["model"].parameters()["final_norm.weight"][0].copy()
                info["model"].parameters()["final_norm.weight"][0] = np.nan

    result = train(callbacks=[Spoils()], on_nonfinite="rewind", log_every=1)
    assert result.history[-1]["nonfinite"] == 1
    assert alarms(result) == []


def test_a_resumed_run_finds_what_the_uninterrupted_one_finds(tmp_path, stop_after):
    def run(folder, **more):
        return train(output_dir=tmp_path / folder, callbacks=[Freezing("blocks.0."), *more.pop("also", [])], **more)

    whole = alarms(run("whole"))
    run("parts", also=[stop_after(5)])
    assert alarms(run("parts", resume="auto")) == whole
    run("later", also=[stop_after(15)])
    assert alarms(run("later", resume="auto")) == []  # it was told


def test_its_state_is_plain():
    told = PutBack()
    sample = {"a": np.ones(3)}
    assert told.before(1, sample) == []
    told.after({"a": 1e-3})
    again = PutBack(json.loads(json.dumps(told.state())))
    assert again.before(5, sample) == told.before(5, sample) != []
    assert again.before(6, sample) == []
    assert PutBack("nonsense").before(1, sample) == []
    small = PutBack()
    small.before(1, sample)
    small.after({"a": 1e-8})  # rounding may lead back
    assert small.before(2, sample) == []


def test_one_number_that_stays_is_no_matrix_that_stays():
    first, second = {"a": np.array([0.0, 1.0, 2.0])}, {"a": np.array([0.0, 1.0, 2.5])}
    watched = PutBack()
    watched.before(1, first)
    watched.after({"a": 1e-2})
    assert watched.before(2, second) == []
    watched.after({"a": 1e-2})
    assert watched.before(3, {"a": second["a"].copy()}) != []
