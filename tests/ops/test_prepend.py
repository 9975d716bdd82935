"""prepend: formula, differences, extremes, threads, refusals. No number is changed, so float32 and float64 agree."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("batch", "before", "time", "width"), [(2, 3, 4, 5), (1, 1, 1, 1), (3, 0, 2, 7), (2, 3, 0, 4), (0, 1, 1, 2)]
)
def test_forward_joins_and_backward_takes_apart(batch, before, time, width, dtype):
    rng = np.random.default_rng(0)
    prefix = rng.standard_normal((batch, before, width)).astype(dtype)
    x = rng.standard_normal((batch, time, width)).astype(dtype)
    y = ops.prepend(prefix, x)
    np.testing.assert_array_equal(y, np.concatenate([prefix, x], axis=1))
    for got, want in zip(ops.prepend_backward(y, before), (prefix, x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_backward_is_the_derivative(check_gradient):
    rng = np.random.default_rng(0)
    prefix, x = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5, 4))
    check_gradient(lambda v: ops.prepend(v, x), lambda dy, v: ops.prepend_backward(dy, 3)[0], prefix)
    check_gradient(lambda v: ops.prepend(prefix, v), lambda dy, v: ops.prepend_backward(dy, 3)[1], x)


def test_extremes_go_through():
    x = np.array([np.nan, np.inf, -3e38], np.float32).reshape(1, 3, 1)
    np.testing.assert_array_equal(ops.prepend(x, x)[0, 3:], x[0])


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    x = np.random.default_rng(0).standard_normal((9, 64, 96), np.float32)
    check_threads(lambda: (ops.prepend(x, x), *ops.prepend_backward(x, 11)))


def test_refusals():
    x = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"prefix must have shape \(B, P, C\) with B and C of x"):
        ops.prepend(np.zeros((1, 3, 4), np.float32), x)
    with pytest.raises(ValueError, match="prefix must be from 0 to 3, got 4"):
        ops.prepend_backward(x, 4)
    with pytest.raises(TypeError, match="float32"):
        ops.prepend(x.astype(np.float64), x)
