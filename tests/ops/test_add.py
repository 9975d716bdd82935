"""add: formula, differences, dtypes and instruction sets, extremes, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loopos import ops


@settings(max_examples=30)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=19), seed=st.integers(0, 2**31))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward_is_numpys_sum(shape, seed, dtype):
    a, b = (np.asarray(x, dtype) for x in np.random.default_rng(seed).standard_normal((2, *shape)))
    y = ops.add(a, b)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, a + b)


def test_backward_is_the_derivative(check_gradient):
    a, b = np.random.default_rng(0).standard_normal((2, 4, 7))
    check_gradient(lambda x: ops.add(x, b), lambda dy, x: ops.add_backward(dy)[0], a)
    check_gradient(lambda x: ops.add(a, x), lambda dy, x: ops.add_backward(dy)[1], b)


def test_gradients_are_arrays_of_their_own():
    dy = np.ones((2, 3), np.float32)
    da, db = ops.add_backward(dy)
    assert not any(np.shares_memory(x, y) for x, y in ((da, db), (da, dy), (db, dy)))


def test_float_agrees_with_double_at_every_scale(measured):
    assert measured["scales"]["add"] < 1e-7


def test_extremes():
    big = np.array([3e38, -3e38, 1e4, np.inf, np.inf], np.float32)
    other = np.array([3e38, 3e38, -1e4, 1, -np.inf], np.float32)
    np.testing.assert_array_equal(ops.add(big, other), [np.inf, 0, 0, np.inf, np.nan])


@pytest.mark.parametrize("position", [0, 18])
def test_nan_is_not_hidden(position):
    one = np.ones(19, np.float32)
    bad = one.copy()
    bad[position] = np.nan
    expected = np.arange(19) == position
    for found in (ops.add(bad, one), ops.add(one, bad), *ops.add_backward(bad)):
        np.testing.assert_array_equal(np.isnan(found), expected)


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    a, b = np.random.default_rng(0).standard_normal((2, 100_021)).astype(np.float32)
    check_threads(lambda: (ops.add(a, b), *ops.add_backward(a)))


def test_refusals():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="add: b must be a numpy array of dtype float32"):
        ops.add(x, x.astype(np.float64))
    with pytest.raises(ValueError, match=r"add: b must have shape \(2, 3\), got \(3,\)"):
        ops.add(x, x[0])
    with pytest.raises(TypeError, match="add_backward: dy must be a numpy array"):
        ops.add_backward([1.0])
