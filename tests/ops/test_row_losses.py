"""Losses between rows (and kl): differences, instruction sets, extremes, rows without a direction, threads."""

from __future__ import annotations

import numpy as np
import pytest
from loss_references import CALLS, every_loss, pair, reference

import loopos
from loopos import losses


@every_loss
@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 5), (6,), (3, 1)])
def test_gradient_is_the_derivative(name, shape, check_gradient):
    s, t = pair(*shape)
    if shape[-1] == 1 and name in ("cosine", "kl", "kl_warm"):  # one number has one direction and one distribution
        assert not CALLS[name](s, t)[1].any()
        return
    check_gradient(lambda x: CALLS[name](x, t)[0], lambda dy, x: dy * CALLS[name](x, t)[1], s)


def test_float_agrees_with_double(measure):
    figures = measure("measure_losses.py")
    for name in CALLS:
        assert figures[name] < 1e-6, name
        assert figures[name + "_gradient"] < 5e-7, name
    assert figures["kl_near"] < 1e-3  # the student is the teacher to within 1e-4, which float32 logits hold to 1e-3


@every_loss
def test_any_number_of_threads_gives_the_same_bits(name, check_threads):
    s, t = pair(301, 257).astype(np.float32)
    check_threads(lambda: CALLS[name](s, t))


@pytest.mark.parametrize(("name", "side"), [("normalized_mse", 1), ("cosine", 0), ("cosine", 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_without_a_direction_counts_for_nothing_and_is_counted(name, side, dtype):
    rows = pair(4, 6).astype(dtype)
    rows[side][2] = 0
    loopos.reset_guard_counts()
    loss, gradient = CALLS[name](*rows)
    assert loopos.guard_counts()[name] == 1
    want, others = CALLS[name](*np.delete(rows, 2, 1))
    assert loss == want
    np.testing.assert_array_equal(gradient[2], 0)
    np.testing.assert_array_equal(np.delete(gradient, 2, 0), others)
    rows[side][:] = 0
    loss, gradient = CALLS[name](*rows)
    assert loss == 0.0
    np.testing.assert_array_equal(gradient, 0)
    assert loopos.guard_counts()[name] == 5
    tiny = pair(1, 6)
    tiny[side] *= 1e-300  # small is not zero
    if name == "cosine":
        np.testing.assert_allclose(losses.cosine(*tiny)[0], losses.cosine(*pair(1, 6))[0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes(dtype):
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((2, 3, 37))
    for size in (1e-30, 1e4, 3e37):
        s, t = (size * directions).astype(dtype)
        with np.errstate(over="ignore"):
            wide = s.astype(np.longdouble), t.astype(np.longdouble)
            np.testing.assert_allclose(losses.mse(s, t)[0], reference("mse", *wide).astype(float), rtol=1e-12)
        for name in ("normalized_mse", "cosine"):
            loss, gradient = CALLS[name](s, t)
            np.testing.assert_allclose(loss, reference(name, *wide).astype(float), rtol=1e-12)
            assert np.isfinite(gradient).all()
            assert gradient.any() or size > 1e30  # per unit of s: below what float32 holds
    if dtype == np.float64:
        s, t = 1e200 * directions
        np.testing.assert_allclose(losses.cosine(s, t)[0], losses.cosine(s / 1e200, t / 1e200)[0], rtol=1e-12)
        np.testing.assert_allclose(losses.normalized_mse(s, t)[0], losses.normalized_mse(*directions)[0], rtol=1e-12)
