"""projector and its backward, also where eigenvalues are equal."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import (
    DTYPES,
    SHAPES,
    adjoint,
    complex_normal,
    hermitian,
    hermitian_part,
    real_gradient,
    relative,
    with_eigenvalues,
)

from loopos import linalg


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_spans_the_largest(shape):
    n = shape[-1]
    r = hermitian(np.random.default_rng(1), *shape)
    _, v = np.linalg.eigh(r)
    for k in {0, 1, n // 2, n}:
        got = linalg.projector(r, k)
        signal = v[..., n - k :]
        np.testing.assert_allclose(got, signal @ adjoint(signal), atol=1e-11)
        np.testing.assert_array_equal(got, adjoint(got))
        assert relative(got @ got, got) < 1e-13
        assert np.abs(linalg.projector(r.astype(np.complex64), k) - got).max() < 1e-3


@pytest.mark.parametrize(("shape", "k"), [((2, 5), 2), ((1, 9), 1), ((1, 17), 16)], ids=str)
def test_backward_is_the_derivative(shape, k, check_gradient):
    r = hermitian(np.random.default_rng(2), *shape)
    check_gradient(lambda r: linalg.projector(r, k), lambda dp: linalg.projector_backward(dp, r, k), r)


@pytest.mark.parametrize("w", [[1.0, 1, 1, 3, 3], [0, 0, 0, 5, 5], [1, 1, 1, 2, 3]], ids=str)
def test_it_is_right_at_equal_eigenvalues_on_one_side(w):
    """The noise of a covariance: all equal, in theory. Exactly so in diag(w)."""
    dp = complex_normal(np.random.default_rng(3), 5, 5)
    for r in (with_eigenvalues(w), np.diag(w).astype(complex)):
        got = linalg.projector_backward(dp, r, 2)
        want = real_gradient(lambda x: np.vdot(dp, linalg.projector(x, 2)).real, r, hermitian=True)
        assert np.isfinite(got).all()
        assert relative(got, want) < 1e-7
        assert relative(1.001 * got, want) > 1e-7
        p = linalg.projector(r, 2)
        if w[3] == w[4]:  # both sides of one value: the gradient is (P D Q + Q D P) / gap
            d, q = hermitian_part(dp), np.eye(5) - p
            assert relative(got, (p @ d @ q + q @ d @ p) / (w[4] - w[0])) < 1e-13


@pytest.mark.reference
def test_beside_torch_and_jax():
    """Where eigenvalues differ the three agree; where noise is white, exactly, the others give NaN or a wrong one."""
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    dp = hermitian(np.random.default_rng(4), 5)

    def by_torch(r):
        x = torch.tensor(r, requires_grad=True)
        v = torch.linalg.eigh(x).eigenvectors[:, 3:]
        ((v @ v.mH) * torch.tensor(dp.conj())).real.sum().backward()
        return x.grad.numpy()

    def by_jax(r):
        def value(x):
            v = jax.numpy.linalg.eigh(x, symmetrize_input=True)[1][:, 3:]
            return ((v @ v.conj().T) * dp.conj()).real.sum()

        with jax.enable_x64(True):
            return np.conj(np.asarray(jax.grad(value)(r)))

    apart = with_eigenvalues([1.0, 1.5, 2, 4, 5])
    for theirs in (by_torch(apart), by_jax(apart)):
        assert relative(linalg.projector_backward(dp, apart, 2), hermitian_part(theirs)) < 1e-9
    white = np.diag([1.0, 1, 1, 4, 4]).astype(complex)
    p = linalg.projector(white, 2)
    want = (p @ dp @ (np.eye(5) - p) + (np.eye(5) - p) @ dp @ p) / 3
    assert relative(linalg.projector_backward(dp, white, 2), want) < 1e-14
    for theirs in (by_torch(white), by_jax(white)):
        assert not relative(hermitian_part(theirs), want) < 1e-7


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_gap_the_span_is_not_defined(dtype):
    r = np.stack([np.diag([1, 2, 3, 4]), np.diag([1, 2, 2, 4])]).astype(dtype)
    assert linalg.projector(r, 1).shape == r.shape
    for call in (lambda: linalg.projector(r, 2), lambda: linalg.projector_backward(r, r, 2)):
        with pytest.raises(
            ValueError, match=r"batch entry \(1,\): the 2 largest eigenvalues are not apart.* is 2 and the next 2"
        ):
            call()
    with pytest.raises(ValueError, match="equal but for rounding"):
        linalg.projector(with_eigenvalues([1, 2, 2, 4.0]).astype(dtype), 2)
    for k in (0, 4):  # everything and nothing need no gap
        np.testing.assert_array_equal(linalg.projector_backward(r, r, k), 0 * r)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [-120, -62, 0, 62, 120])
def test_extremes(dtype, exponent):
    r = with_eigenvalues([1, 2, 3, 4.0]).astype(dtype)
    scaled = r * dtype(2.0**exponent)
    np.testing.assert_array_equal(linalg.projector(scaled, 2), linalg.projector(r, 2))
    dp = hermitian(np.random.default_rng(5), 4).astype(dtype)
    got, want = linalg.projector_backward(dp, scaled, 2), linalg.projector_backward(dp, r, 2)
    np.testing.assert_allclose(got * dtype(2.0**exponent), want, rtol=1e-6)


def test_refusals():
    r = np.eye(3, dtype=complex)
    for k in (-1, 4):
        with pytest.raises(ValueError, match=rf"projector: k must be an integer from 0 to N = 3, got {k}"):
            linalg.projector(r, k)
    with pytest.raises(TypeError, match="projector: k must be an integer"):
        linalg.projector(r, 1.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_empty(dtype, shape):
    r = np.zeros((*shape, shape[-1]), dtype)
    assert linalg.projector(r, 0).shape == linalg.projector_backward(r, r, 0).shape == r.shape


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    r = hermitian(np.random.default_rng(6), 9, 37).astype(np.complex64)
    check_threads(lambda: (linalg.projector(r, 5), linalg.projector_backward(r, r, 5)))


def test_what_eigh_gave_is_taken():
    r = hermitian(np.random.default_rng(7), 3, 20)
    eigen = linalg.eigh(r)
    np.testing.assert_array_equal(linalg.projector(r, 4, eigen), linalg.projector(r, 4))
    np.testing.assert_array_equal(linalg.projector_backward(r, r, 4, eigen), linalg.projector_backward(r, r, 4))
    with pytest.raises(ValueError, match="v must be finite"):
        linalg.projector(r, 4, (eigen[0], eigen[1] * np.nan))
