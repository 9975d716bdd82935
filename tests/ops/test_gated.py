"""Gated activations, each of the feed-forward: formula, differences, dtypes and instruction sets, extremes, threads,
refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loopos import ops
from loopos.choices import ACTIVATIONS, FUNCTIONS

GATED = [row.f for row in ACTIVATIONS.values() if row.gated]
every_f = pytest.mark.parametrize("f", GATED)


def test_swiglu_is_gated_by_silu():
    dy, gate, up = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    np.testing.assert_array_equal(ops.swiglu(gate, up), ops.gated(gate, up, "silu"))
    np.testing.assert_array_equal(ops.swiglu_backward(dy, gate, up), ops.gated_backward(dy, gate, up, "silu"))


@every_f
@settings(max_examples=30)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=19), seed=st.integers(0, 2**31))
def test_forward_is_the_formula(f, shape, seed):
    rng = np.random.default_rng(seed)
    gate, up = np.asarray(rng.standard_normal(shape)), np.asarray(rng.standard_normal(shape))
    want = FUNCTIONS[f].of(gate)[0] * up
    np.testing.assert_allclose(ops.gated(gate, up, f), want, rtol=1e-12, atol=1e-15)
    y = ops.gated(gate.astype(np.float32), up.astype(np.float32), f)
    assert y.dtype == np.float32
    assert y.shape == shape
    np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-6)


@every_f
def test_backward_is_the_derivative(f, check_gradient):
    rng = np.random.default_rng(0)
    gate, up = 3 * rng.standard_normal((2, 4, 7))
    check_gradient(lambda g: ops.gated(g, up, f), lambda dy, g: ops.gated_backward(dy, g, up, f)[0], gate)
    check_gradient(lambda u: ops.gated(gate, u, f), lambda dy, u: ops.gated_backward(dy, gate, u, f)[1], up)


@pytest.mark.parametrize("name", [name for name, row in ACTIVATIONS.items() if row.gated])
def test_float_agrees_with_double_at_every_scale(name, measured):
    for part in ("", "_dgate", "_dup"):
        assert measured["scales"][name + part] < 3e-7


@every_f
def test_extremes(f):
    gate = np.array([-3e38, -1e4, 1e4, 3e38], np.float32)
    np.testing.assert_array_equal(ops.gated(gate, np.ones_like(gate), f), [0, 0, 1e4, np.float32(3e38)])
    dgate, dup = ops.gated_backward(np.ones_like(gate), gate, np.ones_like(gate), f)
    np.testing.assert_array_equal(dgate, [0, 0, 1, 1])
    np.testing.assert_array_equal(dup, [0, 0, 1e4, np.float32(3e38)])
    assert ops.gated(gate[3:], gate[3:], f) == np.inf
    assert ops.gated(gate[:0], gate[:0], f).shape == (0,)


@every_f
@pytest.mark.parametrize("position", [0, 18])
def test_nan_is_not_hidden(f, position):
    one = np.full(19, -0.5, np.float32)
    bad = one.copy()
    bad[position] = np.nan
    expected = np.arange(19) == position
    for args in ((bad, one), (one, bad)):
        np.testing.assert_array_equal(np.isnan(ops.gated(*args, f)), expected)
    for i in range(3):
        args = [bad if i == j else one for j in range(3)]
        found = np.isnan(ops.gated_backward(*args, f))
        np.testing.assert_array_equal(found.any(0), expected)


@every_f
def test_any_number_of_threads_gives_the_same_bits(f, check_threads):
    dy, gate, up = np.random.default_rng(0).standard_normal((3, 50_021)).astype(np.float32)
    check_threads(lambda: (ops.gated(gate, up, f), *ops.gated_backward(dy, gate, up, f)))


@every_f
def test_halves_of_one_matrix_equal_their_copies(f):
    x = np.random.default_rng(0).standard_normal((5, 14))
    gate, up = x[:, :7], x[:, 7:]
    np.testing.assert_array_equal(ops.gated(gate, up, f), ops.gated(gate.copy(), up.copy(), f))
    got, want = ops.gated_backward(up, gate, up, f), ops.gated_backward(up.copy(), gate.copy(), up.copy(), f)
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
@every_f
def test_torch_agrees(f):
    torch = pytest.importorskip("torch")
    functions = {"gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh")}
    function = functions.get(f) or getattr(torch.nn.functional, f)
    dy, gate, up = 3 * np.random.default_rng(0).standard_normal((3, 6, 11))
    g, u = torch.tensor(gate, requires_grad=True), torch.tensor(up, requires_grad=True)
    y = function(g) * u
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(ops.gated(gate, up, f), y.detach().numpy(), rtol=1e-12, atol=1e-14)
    for got, want in zip(ops.gated_backward(dy, gate, up, f), (g.grad, u.grad), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-12, atol=1e-14)
