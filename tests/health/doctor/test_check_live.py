"""The doctor and the trainer: each setting that a trainer drops is named, and each part of an update it gets wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import loopos
from loopos.health.doctor import check_live
from loopos.health.doctor.patient import NotApplicable
from loopos.health.doctor.report import FAIL, OK, SKIPPED


def found(patient):
    return {check.name: check for check in check_live.check_settings(patient)}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("rate", [0.0, 1e-12, 1e-3, 10.0])
def test_every_setting_of_train_is_live(optimizer, rate, patient):
    checks = found(patient(optimizer=optimizer, learning_rate=rate))
    assert {check.verdict for check in checks.values()} == {OK}, list(map(str, checks.values()))
    settings = {"learning_rate", "weight_decay", "warmup_steps", "max_grad_norm", "seed", "dropout"}
    settings |= {"betas"} if optimizer != "sgd" else set()
    assert {name.removesuffix(" is live") for name in checks if name.endswith("live")} == settings


@pytest.mark.parametrize("norm", [1e-9, 1e-30])
def test_gradients_clipped_to_nothing_do_not_make_other_settings_dead(norm, patient):
    checks = found(patient(optimizer="sgd", max_grad_norm=norm))
    assert {check.verdict for check in checks.values()} == {OK}, list(map(str, checks.values()))


def ignoring(name, value):
    """A trainer with ``(void)name;``."""
    return lambda model, data, **settings: loopos.train(model, data, **settings | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("weight_decay", 0.0), ("betas", (0.9, 0.95)), ("max_grad_norm", 1.0), ("seed", 5), ("warmup_steps", 0)],
)
def test_an_ignored_setting_is_named(name, value, patient):
    checks = found(patient(trainer=ignoring(name, value)))
    assert [check.name for check in checks.values() if check.verdict == FAIL] == [f"{name} is live"]
    assert "not used" in checks[f"{name} is live"].advice


def test_an_ignored_learning_rate_is_named(patient):
    checks = found(patient(trainer=ignoring("learning_rate", 0.01)))
    failed = {check.name for check in checks.values() if check.verdict == FAIL}
    assert failed == {"learning_rate is live", "learning rate 0"}


def test_an_ignored_dropout_is_named(config, patient):
    def trainer(model, data, **settings):
        twin = type(model)(replace(model.config, dropout=0.0), dtype=model.dtype)
        twin.load_state_dict(model.state_dict())
        loopos.train(twin, data, **settings)
        model.load_state_dict(twin.state_dict())

    checks = found(patient(loopos.Model(config(dropout=0.1)), trainer=trainer))
    assert [check.name for check in checks.values() if check.verdict == FAIL] == ["dropout is live"]
    off = found(patient(trainer=trainer))["dropout is live"]
    assert off.verdict == SKIPPED
    assert off.measured == "the model's dropout is 0"


def test_a_rate_of_zero_that_moves_weights(patient):
    def trainer(model, data, **settings):
        loopos.train(model, data, **settings)
        model.parameters()["final_norm.weight"][0] += np.float32(1e-3)

    assert found(patient(trainer=trainer))["learning rate 0"].measured == "1 weights change in 3 updates"


def test_a_trainer_that_nobody_seeds(patient):
    rng = np.random.default_rng()
    checks = found(patient(trainer=lambda m, d, **s: loopos.train(m, d, **s | {"seed": int(rng.integers(2**40))})))
    assert checks["same settings, same bits"].verdict == FAIL
    assert len(checks) == 1  # two runs that differ anyway say nothing about a setting


def test_a_trainer_that_does_nothing(patient):
    checks = found(patient(trainer=lambda *args, **settings: None))
    assert "does not change a single weight" in checks["same settings, same bits"].advice


class Table:
    """No config, so no sibling: it is trained itself, and put back."""

    def __init__(self):
        self.table = np.random.default_rng(0).normal(0, 0.02, (256, 256)).astype(np.float32)

    def parameters(self):
        return {"table": self.table}

    def loss_and_grads(self, ids, targets):
        dlogits = loopos.ops.cross_entropy_backward(1.0, self.table[ids.reshape(-1)], targets.reshape(-1))
        return 0.0, {"table": loopos.ops.embedding_backward(dlogits, ids.reshape(-1), 256)}


def test_without_a_sibling_the_model_itself_is_tried(patient):
    from loopos.health.doctor.patient import steps_by_hand

    model = Table()
    before = model.table.copy()
    checks = found(patient(model, trainer=steps_by_hand))
    failed = {check.name for check in checks.values() if check.verdict == FAIL}
    assert failed == {"warmup_steps is live"}  # which it does not have, indeed
    assert checks["seed is live"].verdict == checks["dropout is live"].verdict == SKIPPED
    assert (model.table == before).all()
    with pytest.raises(NotApplicable, match="pass trainer="):
        found(patient(model))


# An update and its parts


def test_micro_batches_make_the_batch(family, patient, batch):
    assert check_live.accumulation(patient(loopos.Model(family), [batch(family)])).verdict == OK
    dropping = loopos.Model(replace(family, dropout=0.3))
    assert check_live.accumulation(patient(dropping, [batch(family)])).verdict == OK


def test_a_mean_of_means_is_found(patient):
    def trainer(model, data, *, grad_accum, learning_rate, **settings):
        for micro in range(grad_accum):  # as if every micro-batch had the same number of targets
            _, grads = model.loss_and_grads(*data.batch(0, micro))
            for name, view in model.parameters().items():
                view -= learning_rate / grad_accum * grads[name]

    check = check_live.accumulation(patient(trainer=trainer))
    assert check.verdict == FAIL
    assert "a mean of means" in check.advice


def test_micro_batches_that_are_dropped_are_found(patient):
    def trainer(model, data, **settings):
        return loopos.train(model, data, **settings | {"grad_accum": 1})

    assert check_live.accumulation(patient(trainer=trainer)).verdict == FAIL


def test_the_loss_that_is_logged(patient):
    assert check_live.logged_loss(patient()).verdict == OK

    def trainer(model, data, **settings):
        result = loopos.train(model, data, **settings)
        result.history[0]["loss"] = 0.0  # what a filter of NaN makes of it
        return result

    check = check_live.logged_loss(patient(trainer=trainer))
    assert check.verdict == FAIL
    assert check.measured == "0"
    with pytest.raises(NotApplicable, match="no history"):
        check_live.logged_loss(patient(trainer=lambda *args, **settings: None))


def test_a_first_update_that_is_none_is_not_called_a_mean_of_means(patient):
    def late(model, data, *, grad_accum, **_):
        for micro in range(grad_accum):  # what it gathers, the next step would use
            model.loss_and_grads(*data.batch(0, micro))

    check = check_live.accumulation(patient(trainer=late))
    assert check.verdict == FAIL
    assert "step come before the backward pass" in check.advice
