import dataclasses
import inspect
import json
import math

import pytest

from loopos.run.settings import SettingError, TrainSettings
from loopos.training import default_settings as settings
from loopos.training import train

NAMES = [field.name for field in dataclasses.fields(TrainSettings)]
DEFAULTS = {name: inspect.signature(train).parameters[name].default for name in NAMES}


def test_the_defaults_of_train_are_good_settings():
    made = settings()
    assert {name: getattr(made, name) for name in NAMES} == DEFAULTS
    assert json.loads(json.dumps(made.to_dict())) == DEFAULTS | {"betas": [0.9, 0.95]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.seed = 1


POSITIVE = ("max_steps", "epochs", "batch_size", "seq_len", "grad_accum", "threads", "log_every", "eval_every")
BAD = [(name, value) for name in (*POSITIVE, "save_every") for value in (0, -1)]
BAD += [(name, math.nan) for name in ("learning_rate", "min_lr", "weight_decay", "eps", "max_grad_norm")]
BAD += [(name, math.inf) for name in ("learning_rate", "min_lr", "weight_decay", "eps", "max_grad_norm")]
BAD += [(name, -1e-3) for name in ("learning_rate", "min_lr", "weight_decay", "eps", "max_grad_norm")]
BAD += [("eps", 0), ("max_grad_norm", 0), ("warmup_steps", -1), ("seed", -1), ("seed", 2**64), ("min_lr", 1.0)]
BAD += [("optimizer", "adagrad"), ("lr_schedule", "step"), ("on_nonfinite", "ignore"), ("learning_rate", 10**400)]
BAD += [(name, 10**400) for name in (*POSITIVE, "save_every", "warmup_steps")] + [("threads", 1025)]
BAD += [
    ("betas", (0.9, 1.0)),
    ("betas", (-0.1, 0.9)),
    ("betas", (0.9, math.nan)),
    ("betas", (0.9,)),
    ("betas", (0, 0, 0)),
]
WRONG = [(name, value) for name in (*POSITIVE, "warmup_steps", "seed") for value in (True, "8", 2.0, math.nan)]
WRONG += [
    (name, value) for name in ("learning_rate", "weight_decay", "eps", "min_lr") for value in (True, "1e-3", None)
]
WRONG += [
    ("optimizer", None),
    ("optimizer", 3),
    ("betas", 0.9),
    ("betas", None),
    ("betas", ("a", "b")),
    ("betas", "ab"),
]
WRONG += [("batch_size", None), ("on_nonfinite", True)]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_out_of_range_is_a_value_error_that_names_it(name, value):
    with pytest.raises(ValueError, match=rf"train: {name}.*got") as caught:
        settings(**{name: value})
    assert not isinstance(caught.value, TypeError)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_type_is_both_a_type_error_and_a_value_error(name, value):
    with pytest.raises(SettingError, match=rf"train: {name}.*got") as caught:
        settings(**{name: value})
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


def test_what_is_legal_at_the_border():
    made = settings(learning_rate=0, weight_decay=0, betas=[0, 0], max_grad_norm=None, seed=2**64 - 1, warmup_steps=0)
    assert made.learning_rate == 0.0
    assert made.betas == (0.0, 0.0)
    assert settings(lr_schedule="constant", learning_rate=0.1, min_lr=0.5).min_lr == 0.5


def test_a_setting_without_effect_is_told():
    idle = settings(eval_every=5, save_every=7)
    with pytest.warns(UserWarning, match="does nothing without") as seen:
        idle.check_together(eval_data=None, output_dir=None)
    assert [str(warning.message) for warning in seen] == [
        "train: eval_every=5 does nothing without eval_data",
        "train: save_every=7 does nothing without output_dir; nothing of this run will be kept",
    ]
    idle.check_together(eval_data=[1, 2], output_dir="x")  # any warning is an error here


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"learning_rate": 0.1, "weight_decay": 50.0}, "1 - learning_rate 0.1 x weight_decay 50 = -4"),
        (
            {"optimizer": "lion", "learning_rate": 0.1, "weight_decay": 10.0},
            "1 - learning_rate 0.1 x weight_decay 10 = 0",
        ),
        (
            {"optimizer": "muon", "learning_rate": 0.001, "muon_lr": 0.1, "weight_decay": 30.0},
            "1 - muon_lr 0.1 x weight_decay 30 = -2",
        ),
    ],
)
def test_a_decay_that_turns_weights_round_has_words_for_the_doctor(more, words):
    asked = settings(**more)
    asked.check_together(eval_data=None, output_dir=None)  # any warning is an error here
    assert asked.shrinks <= 0
    assert asked.decay_in_words() == words


def test_a_decay_that_shrinks_weights_is_let_alone():
    for more in ({}, {"learning_rate": 0.1, "weight_decay": 5.0}, {"optimizer": "adam", "weight_decay": 1e4}):
        assert settings(**more).shrinks > 0
