"""Lion against the rule as it was published (Chen et al. 2023, algorithm 2), written in plain numpy float64."""

from __future__ import annotations

import numpy as np
import pytest
from optimizers import draw
from sweeps import SANITIZED

from loopos import optim

SHAPES = {"w": (5, 7), "big": (20011,), "b": (3,)}


def published(params, steps, lr, betas, decay, error=1.0):
    """The weights after the gradients of `steps`; error: planted into the step."""
    moments = {name: np.zeros_like(p) for name, p in params.items()}
    for grads in steps:
        for name, g in grads.items():
            update = np.sign(betas[0] * moments[name] + (1 - betas[0]) * g)
            params[name] = params[name] - error * lr * (update + decay * params[name])
            moments[name] = betas[1] * moments[name] + (1 - betas[1]) * g
    return params, moments


@pytest.mark.parametrize(("betas", "decay"), [((0.9, 0.99), 0.0), ((0.95, 0.98), 0.1), ((0.0, 0.0), 0.5)])
def test_a_thousand_steps_follow_the_published_rule(betas, decay):
    start = draw(0, np.float64, SHAPES)
    rng = np.random.default_rng(1)
    count = 50 if SANITIZED else 1000
    steps = [{n: rng.standard_normal(s) for n, s in SHAPES.items()} for _ in range(count)]
    params = {n: p.copy() for n, p in start.items()}
    optimizer = optim.Lion(params, 1e-3, betas=betas, weight_decay=decay)
    for grads in steps:
        optimizer.step(grads)
    want, moments = published(dict(start), steps, 1e-3, betas, decay)
    wrong, _ = published(dict(start), steps, 1e-3, betas, decay, error=1.001)
    state = optimizer.state_dict()
    for name, p in params.items():
        np.testing.assert_allclose(p, want[name], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(state[f"exp_avg.{name}"], moments[name], rtol=1e-12, atol=1e-15)
        assert not np.allclose(p, wrong[name], rtol=1e-6, atol=1e-7)


def test_a_gradient_of_zero_moves_nothing_at_first():
    params = {"w": np.array([[1.0, -2.0, 3.0]])}
    optimizer = optim.Lion(params, 0.5)
    optimizer.step({"w": np.array([[0.0, -0.0, 1e-300]])})
    assert params["w"].tolist() == [[1.0, -2.0, 2.5]]


def test_large_and_small_gradients_give_the_same_step():
    """A sign has no size: from the smallest float to the largest nothing over- or underflows."""
    for size in (1e-45, 1e-38, 1.0, 3e38):
        params = {"w": np.zeros(2, np.float32)}
        optimizer = optim.Lion(params, 0.25)
        optimizer.step({"w": np.array([size, -size], np.float32)})
        if size != 1e-45:  # a tenth of it is 0 in float32
            assert params["w"].tolist() == [-0.25, 0.25]
