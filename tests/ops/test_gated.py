"""swiglu: formula, differences, dtypes and instruction sets, extremes, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loopos import ops


def reference(gate, up):
    return gate * np.exp(-np.logaddexp(0, -gate)) * up


@settings(max_examples=30)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=19), seed=st.integers(0, 2**31))
def test_forward_is_the_formula(shape, seed):
    rng = np.random.default_rng(seed)
    gate, up = np.asarray(rng.standard_normal(shape)), np.asarray(rng.standard_normal(shape))
    np.testing.assert_allclose(ops.swiglu(gate, up), reference(gate, up), rtol=1e-13, atol=1e-300)
    y = ops.swiglu(gate.astype(np.float32), up.astype(np.float32))
    assert y.dtype == np.float32
    assert y.shape == shape
    np.testing.assert_allclose(y, reference(gate, up), rtol=2e-6, atol=1e-6)


def test_backward_is_the_derivative(check_gradient):
    rng = np.random.default_rng(0)
    gate, up = 3 * rng.standard_normal((2, 4, 7))
    check_gradient(lambda g: ops.swiglu(g, up), lambda dy, g: ops.swiglu_backward(dy, g, up)[0], gate)
    check_gradient(lambda u: ops.swiglu(gate, u), lambda dy, u: ops.swiglu_backward(dy, gate, u)[1], up)


def test_float_agrees_with_double_at_every_scale(measured):
    for name in ("swiglu", "swiglu_dgate", "swiglu_dup"):
        assert measured["scales"][name] < 3e-7


def test_extremes():
    gate = np.array([-3e38, -1e4, 1e4, 3e38], np.float32)
    np.testing.assert_array_equal(ops.swiglu(gate, np.ones_like(gate)), [0, 0, 1e4, np.float32(3e38)])
    dgate, dup = ops.swiglu_backward(np.ones_like(gate), gate, np.ones_like(gate))
    np.testing.assert_array_equal(dgate, [0, 0, 1, 1])
    np.testing.assert_array_equal(dup, [0, 0, 1e4, np.float32(3e38)])


@pytest.mark.parametrize("position", [0, 18])
def test_nan_is_not_hidden(position):
    one = np.full(19, -0.5, np.float32)
    bad = one.copy()
    bad[position] = np.nan
    expected = np.arange(19) == position
    for args in ((bad, one), (one, bad)):
        np.testing.assert_array_equal(np.isnan(ops.swiglu(*args)), expected)
    for i in range(3):
        args = [bad if i == j else one for j in range(3)]
        found = np.isnan(ops.swiglu_backward(*args))
        np.testing.assert_array_equal(found.any(0), expected)


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    dy, gate, up = np.random.default_rng(0).standard_normal((3, 50_021)).astype(np.float32)
    check_threads(lambda: (ops.swiglu(gate, up), *ops.swiglu_backward(dy, gate, up)))


def test_halves_of_one_matrix_equal_their_copies():
    x = np.random.default_rng(0).standard_normal((5, 14))
    gate, up = x[:, :7], x[:, 7:]
    np.testing.assert_array_equal(ops.swiglu(gate, up), ops.swiglu(gate.copy(), up.copy()))
    got, want = ops.swiglu_backward(up, gate, up), ops.swiglu_backward(up.copy(), gate.copy(), up.copy())
    np.testing.assert_array_equal(got, want)


def test_refusals():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="swiglu: gate must be a numpy array"):
        ops.swiglu(x.astype(np.int32), x)
    with pytest.raises(TypeError, match="swiglu: up must be a numpy array of dtype float32"):
        ops.swiglu(x, x.astype(np.float64))
    with pytest.raises(ValueError, match=r"swiglu: up must have shape \(2, 3\), got \(2, 2\)"):
        ops.swiglu(x, x[:, :2])
    with pytest.raises(ValueError, match=r"swiglu_backward: dy must have shape \(2, 3\), got \(3,\)"):
        ops.swiglu_backward(x[0], x, x)
    with pytest.raises(ValueError, match="swiglu_backward: up must have shape"):
        ops.swiglu_backward(x, x, x[:1])


@pytest.mark.reference
def test_torch_agrees():
    torch = pytest.importorskip("torch")
    dy, gate, up = 3 * np.random.default_rng(0).standard_normal((3, 6, 11))
    g, u = torch.tensor(gate, requires_grad=True), torch.tensor(up, requires_grad=True)
    y = torch.nn.functional.silu(g) * u
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(ops.swiglu(gate, up), y.detach().numpy(), rtol=1e-13)
    for got, want in zip(ops.swiglu_backward(dy, gate, up), (g.grad, u.grad), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-12, atol=1e-14)
