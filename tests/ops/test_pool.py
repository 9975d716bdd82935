"""pool: formula, differences, float32 against float64, extremes, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops


@pytest.mark.parametrize(("begin", "end"), [(0, None), (1, None), (0, 1), (2, 4)])
def test_forward_is_the_mean_and_backward_its_derivative(check_gradient, begin, end):
    x = np.random.default_rng(0).standard_normal((3, 5, 7))
    np.testing.assert_allclose(ops.pool(x, begin=begin, end=end), x[:, begin:end].mean(1), rtol=1e-14, atol=1e-15)
    check_gradient(
        lambda v: ops.pool(v, begin=begin, end=end),
        lambda dy, v: ops.pool_backward(dy, 5, begin=begin, end=end),
        x,
    )


def test_rows_outside_have_no_gradient():
    dx = ops.pool_backward(np.ones((2, 3), np.float32), 5, begin=1, end=3)
    np.testing.assert_array_equal(dx[0, :, 0], [0, 0.5, 0.5, 0, 0])


@pytest.mark.parametrize("power", range(0, 10, 3))
def test_float_agrees_with_double(power):
    x = (np.random.default_rng(0).standard_normal((3, 197, 33)) * 2.0**power).astype(np.float32)
    want = ops.pool(x.astype(np.float64))
    np.testing.assert_allclose(ops.pool(x), want, rtol=6e-8, atol=1e-12)
    dy = want.astype(np.float32)
    np.testing.assert_allclose(ops.pool_backward(dy, 9), ops.pool_backward(dy.astype(np.float64), 9), rtol=6e-8)


def test_extremes():
    x = np.full((1, 3, 2), 3e38, np.float32)
    np.testing.assert_array_equal(ops.pool(x), x[:, 0])  # the sum has no float
    x[0, 1, 0] = np.nan
    np.testing.assert_array_equal(np.isnan(ops.pool(x)), [[True, False]])
    assert not np.isnan(ops.pool(x, begin=2)).any()
    assert ops.pool(np.zeros((0, 3, 2))).shape == (0, 2)


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    x = np.random.default_rng(0).standard_normal((9, 64, 96), np.float32)
    check_threads(lambda: (ops.pool(x), ops.pool_backward(x[0], 5)))


def test_refusals():
    x = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"must be some of 3, got \[1, 1\)"):
        ops.pool(x, begin=1, end=1)
    with pytest.raises(ValueError, match=r"must be some of 3, got \[0, 4\)"):
        ops.pool(x, end=4)
    with pytest.raises(TypeError, match="float32 or float64"):
        ops.pool(x.astype(np.int64))
