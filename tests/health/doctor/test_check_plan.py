"""The doctor and the settings: what cannot work together is named, what can is let alone."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.health.doctor import doctor
from loopos.health.doctor.report import FAIL, OK, WARN


@pytest.fixture(autouse=True)
def _no_model(monkeypatch):
    """What is examined with the model is not looked at here, and takes the time."""
    monkeypatch.setattr(doctor, "EXAMINATIONS", [])


@pytest.fixture
def look(config):
    """look(data=ids, model=None, **settings): the report of the quick round."""

    def make(data=None, model=None, **settings):
        ids = np.random.default_rng(0).integers(0, 256, 5000) if data is None else data
        return loopos.doctor(config() if model is None else model, ids, quick=True, **settings)

    return make


HEALTHY = [
    {},
    {"max_steps": 100, "warmup_steps": 100},
    {"max_steps": 1, "warmup_steps": 1},
    {"max_steps": 1000, "warmup_steps": 100, "weight_decay": 0.1},
    {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.01},
    {"optimizer": "sgd", "learning_rate": 0.1, "betas": (0.0, 0.0)},
    {"optimizer": "adam", "weight_decay": 0.1},
    {"betas": (0.0, 0.95)},
    {"max_steps": 2000, "eval_data": np.arange(400) % 251, "eval_every": 100},
    {"max_steps": 10, "eval_data": np.arange(400) % 251, "eval_every": 1},
    {"learning_rate": 1e-4},
]


@pytest.mark.parametrize("settings", HEALTHY, ids=str)
def test_what_can_work_is_let_alone(settings, look):
    report = look(**{"learning_rate": 1e-3} | settings)
    assert report.problems == (), report


@pytest.mark.parametrize(
    ("settings", "name", "verdict", "said"),
    [
        (
            {"max_steps": 10, "warmup_steps": 100},
            "schedule",
            WARN,
            "longer than the run, which ends at 0.1 of the peak",
        ),
        ({"warmup_steps": 100}, "schedule", WARN, "longer than the run"),  # of one epoch
        ({"learning_rate": 0.0}, "schedule", WARN, "no weight moves"),
        ({"betas": (0.0, 0.0)}, "schedule", WARN, "betas of 0 leave the sign of each gradient"),
        ({"learning_rate": 0.1, "weight_decay": 50.0}, "weight decay", FAIL, "x weight_decay 50 = -4: weights change"),
        ({"weight_decay": 1e4}, "weight decay", FAIL, "= -9: weights change their sign and grow"),
        ({"weight_decay": 1e3}, "weight decay", FAIL, "= 0"),
        ({"weight_decay": 100.0}, "weight decay", WARN, "= 0.9: what was learned is forgotten"),
        ({"weight_decay": 1e4, "optimizer": "sgd"}, "weight decay", FAIL, "= -9"),
        ({"batch_size": 400}, "windows", WARN, "312 windows for 400 rows: each stands 1.28 times"),
        ({"batch_size": 64, "grad_accum": 8}, "windows", WARN, "312 windows for 512 rows"),
        ({"seq_len": 1}, "windows", WARN, "in a context of one token nothing comes before"),
        ({"learning_rate": 1e-5}, "model", WARN, "is one for fine-tuning"),
        (
            {"eval_data": np.arange(9000) % 251, "eval_every": 1, "max_steps": 400},
            *("evaluation", WARN, "a larger eval_every, or fewer eval_tokens"),
        ),
    ],
    ids=str,
)
def test_what_cannot_work_is_named(settings, name, verdict, said, look):
    check = look(**{"learning_rate": 1e-3} | settings)[name]
    assert check.verdict == verdict
    assert said in check.advice


def test_few_windows(look, config):
    report = look(np.arange(40) % 7, batch_size=64)
    assert "2 windows for 64 rows: each stands 32 times in an update" in report["windows"].advice
    assert "with a warning" in report.summary
    assert "one window is learned by heart" in look(np.arange(20), batch_size=1)["windows"].advice


def test_decay_of_adam_is_no_factor(look):
    assert (
        look(optimizer="adam", weight_decay=1e4)["weight decay"].verdict == OK
    )  # L2: part of a gradient that is scaled


def test_a_config_of_a_loaded_model_is_not_the_model(look, config, tmp_path):
    loopos.Model(config()).save_pretrained(tmp_path / "hf")
    model = loopos.Model.from_pretrained(tmp_path / "hf")
    check = look(model=model.config)["model"]
    assert check.verdict == WARN
    assert f"the config of the model in {tmp_path / 'hf'}, whose weights are not used: pass the Model" in check.advice
    assert look(model=model)["model"].verdict == OK
    assert look(model=loopos.Model(config()).config)["model"].verdict == OK
    assert "new weights, made from a ModelConfig" in look()["model"].measured


def test_a_head_of_its_own_is_told(look, config):
    assert "the token embedding (tied)" in look()["model"].measured
    assert "8192 of its own (untied)" in look(model=config(tie_embeddings=False))["model"].measured


def test_the_cost_of_evaluations_is_told(look):
    check = look(eval_data=np.arange(400) % 251, eval_every=10, max_steps=100)["evaluation"]
    assert check.measured == "10 of 400 tokens, about 0.069 of the work of the updates"
    check = look(eval_data=np.arange(40_001) % 251, max_steps=100, eval_tokens=4000)["evaluation"]
    assert check.measured == "1 of 4000 tokens (0.1 of the held-out ones)"
