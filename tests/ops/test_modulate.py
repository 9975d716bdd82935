"""The modulation: formula, gates (identity at 0, bounds, slope), differences, dtypes and instruction sets, extremes,
threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loopos import ops
from loopos.choices import GATES


def logistic(z):
    return np.exp(-np.logaddexp(0, -z))


# gate: formula, value at 0, slope at 0, least, largest
KNOWN = {
    "sigmoid": (lambda z: 0.5 + logistic(z), 1.0, 0.25, 0.5, 1.5),
    "tanh": (lambda z: 1 + np.tanh(z) / 2, 1.0, 0.5, 0.5, 1.5),
    "document": (lambda z: 0.5 * logistic(z) + 0.5, 0.75, 0.125, 0.5, 1.0),
}
every_gate = pytest.mark.parametrize("gate", GATES)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def opened(z, gate):
    """gate(z), as the op computes it."""
    return ops.modulate(np.ones_like(z), z, np.zeros_like(z), gate=gate)


def test_every_gate_is_known_here():
    assert list(GATES) == list(KNOWN)


@dtypes
@every_gate
def test_value_and_slope_at_0_and_bounds(gate, dtype):
    _, value, slope, least, largest = KNOWN[gate]
    zero = np.zeros(37, dtype)
    np.testing.assert_array_equal(opened(zero, gate), np.full(37, value, dtype))
    np.testing.assert_array_equal(
        ops.modulate_backward(zero + 1, zero + 1, zero, gate=gate)[1], np.full(37, slope, dtype)
    )
    far = opened(np.linspace(-200, 200, 40_001).astype(dtype), gate)
    assert far.min() == least
    assert far.max() == largest
    assert np.all(np.diff(far) >= 0)
    inside = opened(np.linspace(-8, 8, 4001).astype(dtype), gate)
    assert inside.min() > least
    assert inside.max() < largest


@dtypes
@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
def test_a_gate_that_is_not_moved_changes_no_bit(gate, dtype):
    x = np.random.default_rng(0).standard_normal((50, 33)).astype(dtype)
    zero = np.zeros_like(x)
    np.testing.assert_array_equal(ops.modulate(x, zero, zero, gate=gate), x)
    np.testing.assert_array_equal(ops.modulate_backward(x, zero, zero, gate=gate)[0], x)


def test_the_gate_of_the_document_takes_a_quarter_a_layer():
    x = np.ones(5)
    for _ in range(32):
        x = ops.modulate(x, np.zeros(5), np.zeros(5), gate="document")
    np.testing.assert_allclose(x, 0.75**32, rtol=1e-15)
    assert x[0] < 1.01e-4


@every_gate
@settings(max_examples=30)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=19), seed=st.integers(0, 2**31))
def test_forward_is_the_formula(gate, shape, seed):
    rng = np.random.default_rng(seed)
    x, z, d = (np.asarray(rng.standard_normal(shape)) for _ in range(3))
    want = KNOWN[gate][0](z) * x + 0.3 * d
    np.testing.assert_allclose(ops.modulate(x, z, d, gate=gate, additive_scale=0.3), want, rtol=1e-12, atol=1e-15)
    y = ops.modulate(*(a.astype(np.float32) for a in (x, z, d)), gate=gate, additive_scale=0.3)
    assert y.dtype == np.float32
    assert y.shape == shape
    np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-6)


def test_without_a_gate_it_adds():
    x, d, dy = np.random.default_rng(0).standard_normal((3, 4, 7))
    np.testing.assert_allclose(ops.modulate(x, None, d, additive_scale=0.1), x + 0.1 * d, rtol=1e-15)
    dx, dz, dd = ops.modulate_backward(dy, x, None, additive_scale=0.1)
    np.testing.assert_array_equal(dx, dy)
    assert dz is None
    np.testing.assert_array_equal(dd, 0.1 * dy)


@every_gate
def test_backward_is_the_derivative(gate, check_gradient):
    x, z, d = 2 * np.random.default_rng(0).standard_normal((3, 4, 7))
    options = {"gate": gate, "additive_scale": 0.7}
    check_gradient(
        lambda x: ops.modulate(x, z, d, **options), lambda dy, x: ops.modulate_backward(dy, x, z, **options)[0], x
    )
    check_gradient(
        lambda z: ops.modulate(x, z, d, **options), lambda dy, z: ops.modulate_backward(dy, x, z, **options)[1], z
    )
    check_gradient(
        lambda d: ops.modulate(x, z, d, **options), lambda dy, d: ops.modulate_backward(dy, x, z, **options)[2], d
    )


@every_gate
def test_float_agrees_with_double_at_every_scale(gate, measured):
    for part in ("", "_dx", "_dz", "_dd"):
        assert measured["scales"][f"modulate_{gate}{part}"] < 3e-7


@every_gate
def test_extremes(gate):
    _, _, _, least, largest = KNOWN[gate]
    z = np.array([-3e38, -1e4, 1e4, 3e38], np.float32)
    np.testing.assert_array_equal(opened(z, gate), [least, least, largest, largest])
    one = np.ones_like(z)
    dx, dz, dd = ops.modulate_backward(one, one, z, gate=gate)
    np.testing.assert_array_equal(dx, [least, least, largest, largest])
    np.testing.assert_array_equal(dz, [0, 0, 0, 0])
    np.testing.assert_array_equal(dd, np.float32(0.1) * one)
    huge = np.full(4, 3e38, np.float32)
    assert np.all(ops.modulate_backward(huge, huge, z, gate=gate)[1] == 0)  # dy x alone would overflow
    if largest > 1:
        assert ops.modulate(huge[:1], z[3:], one[:1], gate=gate) == np.inf
    assert ops.modulate(one[:0], one[:0], one[:0], gate=gate).shape == (0,)


@every_gate
@pytest.mark.parametrize("position", [0, 18])
def test_nan_is_not_hidden(gate, position):
    one = np.full(19, -0.5, np.float32)
    bad = one.copy()
    bad[position] = np.nan
    expected = np.arange(19) == position
    for i in range(3):
        args = [bad if i == j else one for j in range(3)]
        np.testing.assert_array_equal(np.isnan(ops.modulate(*args, gate=gate)), expected)
        np.testing.assert_array_equal(np.isnan(ops.modulate_backward(*args, gate=gate)).any(0), expected)


@every_gate
def test_any_number_of_threads_gives_the_same_bits(gate, check_threads):
    dy, x, z, d = np.random.default_rng(0).standard_normal((4, 50_021)).astype(np.float32)
    check_threads(lambda: (ops.modulate(x, z, d, gate=gate), *ops.modulate_backward(dy, x, z, gate=gate)))


def test_refusals():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="modulate: gate must be one of 'sigmoid', 'tanh', 'document', got 'relu'"):
        ops.modulate(x, x, x, gate="relu")
    with pytest.raises(TypeError, match="modulate: z must be a numpy array of dtype float32"):
        ops.modulate(x, x.astype(np.float64), x)
    with pytest.raises(ValueError, match=r"modulate: d must have shape \(2, 3\), got \(2, 2\)"):
        ops.modulate(x, x, x[:, :2])
    with pytest.raises(ValueError, match="modulate: additive_scale must be finite, got nan"):
        ops.modulate(x, x, x, additive_scale=float("nan"))
    with pytest.raises(ValueError, match=r"modulate_backward: dy must have shape \(2, 3\), got \(3,\)"):
        ops.modulate_backward(x[0], x, x)
