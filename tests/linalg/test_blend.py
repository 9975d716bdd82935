"""blend and its backward."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import DTYPES, complex_normal, real_gradient, relative

from loopos import linalg


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1, 1), (3, 2, 5, 5), (2, 144, 144)], ids=str)
def test_forward_is_the_formula(shape, dtype):
    rng = np.random.default_rng(0)
    a, b = (np.asarray(complex_normal(rng, *shape), dtype) for _ in range(2))
    for beta in (0.0, 0.3, 1.0, 1.5):
        got = linalg.blend(a, b, beta)
        assert (got.dtype, got.shape) == (dtype, shape)
        assert relative(got, (1 - beta) * a.astype(complex) + beta * b) < 2e-7
    np.testing.assert_array_equal(linalg.blend(a, b, 0.0), a)
    np.testing.assert_array_equal(linalg.blend(a, b, 1), b)


def test_backward_is_the_derivative(check_gradient):
    rng = np.random.default_rng(1)
    a, b, dy = (complex_normal(rng, 2, 5, 5) for _ in range(3))
    check_gradient(
        lambda a: linalg.blend(a, b, 0.3), lambda dy: linalg.blend_backward(dy, a, b, 0.3)[0], a, hermitian=False
    )
    check_gradient(
        lambda b: linalg.blend(a, b, 0.3), lambda dy: linalg.blend_backward(dy, a, b, 0.3)[1], b, hermitian=False
    )
    dbeta = linalg.blend_backward(dy, a, b, 0.3)[2]
    want = real_gradient(lambda x: np.vdot(dy, linalg.blend(a, b, x.real.item())).real, np.array([0.3 + 0j]))[0].real
    assert dbeta == pytest.approx(want, rel=1e-7)
    assert dbeta * 1.001 != pytest.approx(want, rel=1e-7)


@pytest.mark.reference
def test_backward_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    a, b, dy = (complex_normal(rng, 2, 40, 40) for _ in range(3))
    inputs = [torch.tensor(x, requires_grad=True) for x in (a, b, np.float64(0.7))]
    ((1 - inputs[2]) * inputs[0] + inputs[2] * inputs[1]).backward(torch.tensor(dy))
    for got, x in zip(linalg.blend_backward(dy, a, b, 0.7), inputs, strict=True):
        assert relative(got, x.grad.numpy()) < 1e-13


def test_the_gradient_by_beta_is_right_where_both_are_nearly_equal():
    rng = np.random.default_rng(3)
    a, dy = complex_normal(rng, 30, 30), complex_normal(rng, 30, 30)
    b = a + 2.0**-40 * np.round(8 * complex_normal(rng, 30, 30))
    assert linalg.blend_backward(dy, a, b, 0.5)[2] == pytest.approx(np.vdot(dy, b - a).real, rel=1e-12)


def test_float_agrees_with_double_at_every_scale(check_scales):
    rng = np.random.default_rng(4)
    a, b, dy = (complex_normal(rng, 2, 40, 40) for _ in range(3))
    check_scales(lambda dy: linalg.blend_backward(dy, a.astype(dy.dtype), b.astype(dy.dtype), 0.3)[0], 1, dy)
    got = linalg.blend_backward(*(x.astype(np.complex64) for x in (dy, a, b)), 0.3)[2]
    assert got == pytest.approx(linalg.blend_backward(dy, a, b, 0.3)[2], rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_go_through(dtype):
    for size in (1e-38, 1e-19, 1e19, 1e38):
        a = np.full((3, 3), size, dtype)
        np.testing.assert_allclose(linalg.blend(a, a, 0.25), a, rtol=1e-6)
    a[1, 1] = np.nan
    assert np.isnan(linalg.blend(a, a, 0.5)).sum() == 1
    empty = np.zeros((0, 3, 3), dtype)
    assert linalg.blend(empty, empty, 0.5).shape == empty.shape
    assert linalg.blend_backward(empty, empty, empty, 0.5)[2] == 0


def test_refusals():
    a = np.eye(3, dtype=complex)
    with pytest.raises(ValueError, match=r"blend: b must have shape \(3, 3\), got \(2, 3\)"):
        linalg.blend(a, a[:2], 0.5)
    with pytest.raises(ValueError, match="blend: beta must be finite, got nan"):
        linalg.blend(a, a, np.nan)


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    rng = np.random.default_rng(5)
    a, b = (complex_normal(rng, 9, 60, 60).astype(np.complex64) for _ in range(2))
    check_threads(lambda: (linalg.blend(a, b, 0.3), *linalg.blend_backward(b, a, b, 0.3)))
