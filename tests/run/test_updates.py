import numpy as np
import pytest

from loopos import Model, ModelConfig
from loopos.optim.training import for_training
from loopos.run.updates import Updater, evaluate

CONFIG = ModelConfig(vocab_size=13, context_length=8, n_layer=1, n_head=2, d_model=16)


class Settings:
    grad_accum, seed, max_grad_norm, optimizer, label_smoothing = 1, 0, None, "sgd", 0.0
    regularization_lambda, shards = 0.0, None

    def __init__(self, **changed):
        self.__dict__.update(changed)


class Batches:
    def __init__(self, *batches):
        self._batches = batches

    def batch(self, step, micro):
        return self._batches[micro]


def some(rows, masked=0, seed=0):
    rng = np.random.default_rng(seed)
    ids, targets = rng.integers(0, 13, (2, rows, 8))
    targets.reshape(-1)[:masked] = -100
    return ids, targets


def updater(model, *batches, check=lambda: None, **settings):
    return Updater(
        model,
        for_training("sgd", model, weight_decay=0.0),
        Batches(*batches),
        Settings(grad_accum=len(batches), **settings),
        check,
    )


def test_micro_batches_of_unequal_valid_tokens_equal_the_full_batch():
    parts = [some(2, 0, 1), some(2, 13, 2), some(2, 5, 3)]
    whole = tuple(np.concatenate([part[i] for part in parts]) for i in range(2))
    one, many = Model(CONFIG, dtype="float64"), Model(CONFIG, dtype="float64")
    full, split = updater(one, whole)(0, 0.5), updater(many, *parts)(0, 0.5)
    assert split.valid_tokens == full.valid_tokens == 3 * 16 - 18
    assert split.loss == pytest.approx(full.loss, rel=1e-13)
    assert split.grad_norm == pytest.approx(full.grad_norm, rel=1e-12)
    for name, weights in one.parameters().items():
        np.testing.assert_allclose(many.parameters()[name], weights, rtol=1e-11, atol=1e-14)


def test_the_update_is_the_gradient_of_the_mean_loss():
    model, before = Model(CONFIG, dtype="float64"), Model(CONFIG, dtype="float64")
    batch = some(3, 4)
    loss, grads = before.loss_and_grads(*batch)
    update = updater(model, batch)(0, 0.25)
    assert update.loss == pytest.approx(loss, rel=1e-14)
    assert update.applied
    for name, weights in before.parameters().items():
        np.testing.assert_allclose(model.parameters()[name], weights - 0.25 * grads[name], rtol=1e-12, atol=1e-15)


def test_clipping_scales_the_update_and_reports_the_norm_before():
    free, clipped = Model(CONFIG, dtype="float64"), Model(CONFIG, dtype="float64")
    start = clipped.state_dict()
    plain = updater(free, some(3))(0, 1.0)
    update = updater(clipped, some(3), max_grad_norm=plain.grad_norm / 4)(0, 1.0)
    assert update.grad_norm == plain.grad_norm
    for name, weights in free.parameters().items():
        moved = clipped.parameters()[name] - start[name]
        np.testing.assert_allclose(moved, (weights - start[name]) / 4, rtol=1e-9, atol=1e-15)


def test_no_valid_target_is_no_update():
    model = Model(CONFIG)
    before = model.state_dict()
    update = updater(model, some(2, 16), some(2, 16))(0, 1.0)
    assert (update.loss, update.grad_norm, update.valid_tokens, update.tokens) == (0.0, 0.0, 0, 32)
    assert not update.applied
    assert all(np.array_equal(before[name], view) for name, view in model.parameters().items())


def test_abandoned_between_micro_batches():
    class Stop(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 4:  # two fetched, one computed
            raise Stop

    model = Model(CONFIG)
    before = model.state_dict()
    once = updater(model, some(2), some(2, seed=1), check=check)
    with pytest.raises(Stop):
        once(0, 1.0)
    assert all(np.array_equal(before[name], view) for name, view in model.parameters().items())
    clean = Model(CONFIG)
    once(0, 1.0)  # what was abandoned leaves nothing behind
    updater(clean, some(2), some(2, seed=1))(0, 1.0)
    assert all(np.array_equal(view, model.parameters()[name]) for name, view in clean.parameters().items())


def test_asked_before_each_micro_batch_is_fetched():
    class Stop(Exception):
        pass

    fetched = []

    class Endless:
        def batch(self, step, micro):
            fetched.append(micro)
            return some(1)

    def check():
        if len(fetched) == 3:
            raise Stop

    model = Model(CONFIG)
    optimizer = for_training("sgd", model, weight_decay=0.0)
    with pytest.raises(Stop):
        Updater(model, optimizer, Endless(), Settings(grad_accum=50), check)(0, 1.0)
    assert fetched == [0, 1, 2]


def test_evaluate_is_the_mean_over_valid_tokens():
    model = Model(CONFIG, dtype="float64")
    batches = [some(2, 3, 1), some(4, 0, 2), some(1, 8, 3)]
    loss, count = evaluate(model, batches)
    assert count == 13 + 32
    assert loss == pytest.approx((model.loss(*batches[0]) * 13 + model.loss(*batches[1]) * 32) / 45, rel=1e-13)
    assert evaluate(model, [some(1, 8)]) == (0.0, 0)
