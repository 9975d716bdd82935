"""A run's own objective, as the doctor computes it: the numbers of a training."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.health.doctor.task import Task
from loopos.training import default_settings

PAIRS = [{"prompt": f"q{i}:", "chosen": "yes, sir", "rejected": "no"} for i in range(4)]


class Batch:
    def __init__(self, batch):
        self._batch = batch

    def batch(self, step, micro=0):
        return self._batch


def apart(config, seed=1):
    model = loopos.Model(config(), seed=seed)
    model.add_adapter(loopos.LoRA(rank=2), seed=3)
    for view in model.adapter_parameters().values():
        view += 0.1
    return model


@pytest.mark.parametrize("settings", [{"teacher": "self"}, {"teacher": "self", "distill": "mse"}, {"task": "dpo"}])
def test_loss_norm_and_weights_are_those_of_a_training(settings, config):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 256, (4, 17))
    batch = ids[:, :-1].copy(), ids[:, 1:].copy()
    model = apart(config)
    task = Task(model, settings.get("teacher"), default_settings(learning_rate=1e-3, **settings))
    assert task.rows == (2 if "task" in settings else 1)
    loss, gradients = task.compute(batch)
    before = {name: view.copy() for name, view in model.adapter_parameters().items()}
    task.steps(Batch(batch), 2, optimizer="sgd", learning_rate=1e-5, max_grad_norm=None, weight_decay=0.0)
    moved = [name for name, view in model.adapter_parameters().items() if (view != before[name]).any()]
    assert 0 < len(moved) <= len({name for name, gradient in gradients.items() if gradient.any()} & set(moved))
    after, _ = task.compute(batch, copied=False)
    assert after < loss
    for name, view in model.adapter_parameters().items():
        view[...] = before[name]
    if "task" in settings:
        assert task.score(batch)[0] == pytest.approx(loss, rel=1e-12)
        return
    history = loopos.train(model, Batch(batch), max_steps=2, learning_rate=1e-3, progress=False, **settings).history
    assert history[0]["loss"] == loss
    norm = np.sqrt(sum(np.sum(np.square(each, dtype=np.float64)) for each in gradients.values()))
    assert history[0]["grad_norm"] == pytest.approx(norm, rel=1e-6)


def test_a_number_that_is_not_finite_is_born_where_it_is(config):
    model = apart(config)
    model.parameters()["blocks.1.mlp_norm.weight"][2] = np.nan
    ids = np.arange(32).reshape(2, 16)
    task = Task(model, "self", default_settings(teacher="self"))
    for attempt in (lambda: task.compute((ids, ids)), lambda: task.steps(Batch((ids, ids)), 1)):
        with pytest.raises(loopos.NonFiniteError) as caught:
            attempt()
        assert caught.value.birth.tensor == "blocks.1.mlp_norm.weight"
