"""What log_softmax promises beyond the family's contract (test_softmax.py)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loopos import ops


def test_accuracy_over_a_real_vocabulary(measured):
    assert measured["vocabulary"]["log_softmax"] < 4  # in units of 2^-23 max|x|


@settings(max_examples=40)
@given(
    x=hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.floats(-300, 300)),
    shift=st.floats(-1e3, 1e3),
)
def test_it_is_the_logarithm_of_softmax_and_ignores_a_shift(x, shift):
    y = ops.log_softmax(x)
    assert (y <= 0).all()
    np.testing.assert_allclose(np.exp(y), ops.softmax(x), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(ops.log_softmax(x + shift), y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_certainty_keeps_its_digits(dtype):
    x = np.array([[14.0, 0.0]], dtype)
    np.testing.assert_allclose(ops.log_softmax(x)[0, 0], -np.log1p(np.exp(-14.0)), rtol=2e-7)


def test_a_result_beyond_the_range_is_infinite():
    x = np.array([3e38, -3e38], np.float32)
    np.testing.assert_array_equal(ops.log_softmax(x), [0, -np.inf])


def test_the_gradient_of_a_masked_element_is_its_dy():
    y = ops.log_softmax(np.array([0.0, -np.inf, 0.0]))
    np.testing.assert_allclose(ops.log_softmax_backward(np.array([1.0, 2.0, 3.0]), y), [-2, 2, 0], atol=1e-14)
