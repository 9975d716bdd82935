"""The doctor and the update: what does not move, moves too little or too much, and what cannot learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

import loopos
from loopos.health.doctor import check_update
from loopos.health.doctor.patient import NotApplicable
from loopos.health.doctor.report import FAIL, OK, WARN


def frozen(*names):
    """A trainer that forgets some parameters."""

    def trainer(model, data, **settings):
        kept = {name: model.parameters()[name].copy() for name in names}
        result = loopos.train(model, data, **settings)
        for name, value in kept.items():
            model.parameters()[name][...] = value
        return result

    return trainer


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_everything_moves(optimizer, family, patient, batch):
    rate = 0.1 if optimizer == "sgd" else 1e-3
    looked = patient(loopos.Model(family), [batch(family)], optimizer=optimizer, learning_rate=rate)
    assert check_update.moves(looked).verdict == OK


def test_what_does_not_move_is_named(patient):
    name = "blocks.0.mlp.up_proj.weight"
    check = check_update.moves(patient(trainer=frozen(name)))
    assert check.verdict == FAIL
    assert f"no bit moves in {name}" in check.measured


def test_decay_is_not_taken_for_learning(patient):
    """A trainer whose decay moves what its gradient does not."""
    name = "blocks.0.mlp.up_proj.weight"

    def trainer(model, data, *, weight_decay, **settings):
        frozen(name)(model, data, weight_decay=weight_decay, **settings)
        model.parameters()[name][...] *= 1 - np.float32(weight_decay)

    assert check_update.moves(patient(trainer=trainer, weight_decay=0.1)).verdict == FAIL


def test_a_part_that_does_not_move_is_named(patient):
    def trainer(model, data, **settings):
        view = model.parameters()["blocks.1.attn.qkv_proj.weight"][64:]
        kept = view.copy()
        loopos.train(model, data, **settings)
        view[...] = kept

    assert "blocks.1.attn.qkv_proj.weight (v)" in check_update.moves(patient(trainer=trainer)).measured


@pytest.mark.parametrize(
    ("rate", "verdict", "said"),
    [
        (0.01, WARN, "warm-up"),
        (1.0, FAIL, "a smaller learning_rate"),
        (1e-8, WARN, "half a unit in the last place"),
    ],
)
def test_the_size_of_an_update(rate, verdict, said, patient):
    check = check_update.moves(patient(learning_rate=rate))
    assert check.verdict == verdict
    assert said in check.advice


def test_dropout_that_takes_the_gradients_is_not_called_rounding(config, patient):
    dropped = check_update.moves(patient(loopos.Model(config(dropout=0.99))))
    assert (dropped.verdict, "a dropout of 0.99 leaves most" in dropped.advice) == (WARN, True)
    rounded = check_update.moves(patient(loopos.Model(config(dropout=0.5)), learning_rate=1e-8))
    assert "half a unit in the last place" in rounded.advice
    assert "dropout" not in rounded.advice
    assert check_update.moves(patient(loopos.Model(config(dropout=0.3)))).verdict == OK


def test_a_large_first_update_is_what_warm_up_is_for(patient):
    assert check_update.moves(patient(learning_rate=0.01, warmup_steps=50)).verdict == OK
    assert check_update.moves(patient(learning_rate=1.0, warmup_steps=50)).verdict == FAIL


def test_a_trainer_that_does_nothing(patient):
    check = check_update.moves(patient(trainer=lambda *args, **settings: None))
    assert check.verdict == FAIL
    assert "is the rate used?" in check.advice


def test_what_is_just_leaving_zero_has_no_ratio(config, patient):
    model = loopos.Model(config())
    for name, view in model.parameters().items():
        if view.ndim == 1 and name.endswith("bias"):
            view += 1e-5
    model.parameters()["blocks.0.attn.o_proj.weight"][...] *= 1e-3
    assert check_update.moves(patient(model)).verdict == OK


def test_updates_that_are_small_but_not_lost(config, patient):
    model = loopos.Model(config(), dtype="float64")
    check = check_update.moves(patient(model, learning_rate=1e-10))
    assert check.verdict == WARN
    assert "a larger learning_rate" in check.advice


def test_no_rate_no_movement(patient):
    with pytest.raises(NotApplicable, match="learning_rate is 0"):
        check_update.moves(patient(learning_rate=0.0))


# Learning a batch by heart


def test_the_least_loss_of_a_batch():
    assert check_update.least_loss(np.array([[1, 2, 3]]), np.array([[2, 3, 4]])) == 0
    two = check_update.least_loss(np.array([[1, 2], [1, 3]]), np.array([[2, 5], [3, 5]]))
    assert two == pytest.approx(math.log(2) / 2)  # after 1 comes 2 or 3; the rest follows
    assert check_update.least_loss(np.array([[1, 2], [1, 3]]), np.array([[-100, 5], [3, 5]])) == 0


def test_rotary_positions_do_not_count_a_token_repeated_from_the_start(config):
    """What least_loss says of them, asked of a model: the same logits after x and after x x."""
    logits = loopos.Model(config(position="rope"), dtype="float64").forward(np.array([[7, 7, 7, 8, 8]]))[0]
    assert np.abs(logits[0] - logits[2]).max() < 1e-14
    assert np.abs(logits[3] - logits[4]).max() > 1e-6
    ids, targets = np.array([[7, 7]]), np.array([[7, 5]])
    assert check_update.least_loss(ids, targets) == 0
    assert check_update.least_loss(ids, targets, positions=False) == pytest.approx(math.log(2))


def test_a_batch_is_learned(family, patient, batch):
    check = check_update.overfit(patient(loopos.Model(family), [batch(family)]))
    assert check.verdict == OK
    assert check.measured.startswith("the model goes from 3.4")


def test_dropout_is_left_aside(config, patient):
    check = check_update.overfit(patient(loopos.Model(config(dropout=0.5))))
    assert check.verdict == OK
    assert "a small sibling" in check.measured


def test_a_trainer_that_goes_uphill_or_nowhere(patient):
    def uphill(model, data, **settings):
        start = {name: view.copy() for name, view in model.parameters().items()}
        loopos.train(model, data, **settings)
        for name, view in model.parameters().items():
            view[...] = 2 * start[name] - view

    assert check_update.overfit(patient(trainer=uphill)).verdict == FAIL
    assert check_update.overfit(patient(trainer=lambda *args, **settings: None)).verdict == FAIL


def test_a_model_of_which_only_a_bias_learns(config, patient):
    names = [name for name in loopos.Model(config()).parameters() if name != "final_norm.bias"]
    assert check_update.overfit(patient(trainer=frozen(*names))).verdict in (WARN, FAIL)
