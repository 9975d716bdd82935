"""cholesky and its backward."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from complex_matrices import DTYPES, SHAPES, adjoint, complex_normal, hermitian, hermitian_part, positive, relative

from loopos import linalg
from loopos.errors import NotPositiveDefiniteError


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_the_factor(shape):
    r = positive(np.random.default_rng(0), *shape)
    got = linalg.cholesky(r)
    np.testing.assert_allclose(got, np.linalg.cholesky(r), rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(got, np.tril(got))
    assert np.all(got[..., range(shape[-1]), range(shape[-1])].imag == 0)
    single = linalg.cholesky(r.astype(np.complex64))
    assert single.dtype == np.complex64
    assert relative(single, got) < 1e-6


@pytest.mark.parametrize("shape", [(1,), (2, 5), (1, 18)], ids=str)
def test_backward_is_the_derivative(shape, check_gradient):
    r = positive(np.random.default_rng(1), *shape)
    check_gradient(linalg.cholesky, lambda dl: linalg.cholesky_backward(dl, r), r)


@pytest.mark.reference
@pytest.mark.parametrize("n", [1, 7, 40])
def test_backward_is_that_of_torch(n):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    r, dl = positive(rng, 2, n), complex_normal(rng, 2, n, n)
    dl[..., range(n), range(n)] = dl[..., range(n), range(n)].real
    x = torch.tensor(r, requires_grad=True)
    torch.linalg.cholesky(x).backward(torch.tensor(dl))
    assert relative(linalg.cholesky_backward(dl, r), hermitian_part(x.grad.numpy())) < 1e-9


def test_float_agrees_with_double_at_every_scale(check_scales):
    r, dl = positive(np.random.default_rng(3), 40), complex_normal(np.random.default_rng(4), 40, 40)
    check_scales(lambda r: linalg.cholesky(r), 0.5, r)
    check_scales(lambda r, dl: linalg.cholesky_backward(dl, r), -0.5, r, dl)
    check_scales(lambda dl, r: linalg.cholesky_backward(dl, r), 1, dl, r)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-38, 1e-19, 1e19, 1e38])
def test_extremes(dtype, size):
    r = positive(np.random.default_rng(5), 2, 20)
    r = (r / np.abs(r).max() * size).astype(dtype)
    with np.errstate(under="ignore"):
        got = linalg.cholesky(r)
        assert relative(got @ adjoint(got) / size, r / size) < (1e-5 if dtype == np.complex64 else 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, 16, 17, 40])
def test_an_indefinite_matrix_is_named_with_its_pivot(dtype, n):
    rng = np.random.default_rng(6)
    r = positive(rng, 2, 3, n).astype(dtype)
    pivot = n - 1
    r[1, 2, pivot, pivot] -= 5
    r[1, 1] = 1e3 * r[1, 2]
    with pytest.raises(NotPositiveDefiniteError, match=r"cholesky: batch entry \(1, 1\): r must be positive def") as e:
        linalg.cholesky(r)
    assert (e.value.batch, e.value.pivot) == ((1, 1), pivot)
    above = r[1, 1, :pivot, :pivot].astype(np.complex128)
    row = r[1, 1, pivot, :pivot].astype(np.complex128)
    schur = r[1, 1, pivot, pivot].real - (row @ np.linalg.solve(above, row.conj())).real
    assert e.value.value == pytest.approx(schur, rel=1e-5)
    copied = pickle.loads(pickle.dumps(e.value))
    assert (str(copied), copied.batch, copied.value) == (str(e.value), e.value.batch, e.value.value)


def test_rank_deficient_and_zero_are_refused():
    a = complex_normal(np.random.default_rng(7), 20, 3)
    for r in (np.zeros((4, 4), complex), np.diag([1.0, 0, 1]).astype(complex), -np.eye(1, dtype=complex)):
        with pytest.raises(NotPositiveDefiniteError, match=r"^cholesky: r must be positive definite, but pivot"):
            linalg.cholesky(r)
    with pytest.raises(NotPositiveDefiniteError) as e:
        linalg.cholesky((a @ adjoint(a)).astype(np.complex64) - 1e-3 * np.eye(20, dtype=np.complex64))
    assert e.value.pivot == 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_or_not_hermitian_is_refused(dtype):
    r = positive(np.random.default_rng(8), 3, 9).astype(dtype)
    for value in (np.nan, np.inf, 1j * np.nan):
        bad = r.copy()
        bad[2, 1, 4] = value
        with pytest.raises(ValueError, match=r"batch entry \(2,\): r must be finite, got .* as element \(1, 4\)"):
            linalg.cholesky(bad)
    bad = r.copy()
    bad[1, 0, 3] += 0.01
    with pytest.raises(ValueError, match=r"batch entry \(1,\): r must be Hermitian.*hermitize\(r\)"):
        linalg.cholesky(bad)
    np.testing.assert_allclose(linalg.cholesky(linalg.hermitize(bad))[0], linalg.cholesky(r)[0])
    imaginary = r.copy()
    imaginary[0, 2, 2] += 0.01j
    with pytest.raises(ValueError, match="must be Hermitian"):
        linalg.cholesky(imaginary)
    with pytest.raises(ValueError, match=r"batch entry \(0,\): dl must be finite"):
        linalg.cholesky_backward(np.full_like(r, np.nan), r)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,)], ids=str)
def test_empty(dtype, shape):
    r = np.zeros((*shape, shape[-1]), dtype)
    assert linalg.cholesky(r).shape == r.shape
    assert linalg.cholesky_backward(r, r).shape == r.shape


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    rng = np.random.default_rng(9)
    r, dl = positive(rng, 9, 37), complex_normal(rng, 9, 37, 37)
    check_threads(lambda: (linalg.cholesky(r), linalg.cholesky_backward(dl, r)))
    indefinite = r.copy()
    indefinite[2:8, 3, 3] = -1

    def refused():
        with pytest.raises(NotPositiveDefiniteError) as e:
            linalg.cholesky(indefinite)
        return (np.array(str(e.value)),)

    check_threads(refused)


def test_bad_arguments():
    r = hermitian(np.random.default_rng(10), 3)
    with pytest.raises(TypeError, match="cholesky: r must be a numpy array of dtype complex64 or complex128, got"):
        linalg.cholesky(r.real)
    with pytest.raises(ValueError, match=r"cholesky: r must be square matrices \(..., N, N\), got shape \(2, 3\)"):
        linalg.cholesky(r[:2])
    with pytest.raises(ValueError, match="at least two axes"):
        linalg.cholesky(r[0])
    with pytest.raises(TypeError, match="cholesky_backward: dl must be a numpy array of dtype complex128"):
        linalg.cholesky_backward(r.astype(np.complex64), r)
    with pytest.raises(ValueError, match=r"cholesky_backward: dl must have shape \(3, 3\), got \(1, 3, 3\)"):
        linalg.cholesky_backward(r[None], r)
