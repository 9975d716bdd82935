"""inverse and its backward."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import DTYPES, SHAPES, adjoint, complex_normal, hermitian, hermitian_part, positive, relative

from loopos import linalg
from loopos.errors import NotPositiveDefiniteError


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_that_of_numpy(shape):
    r = positive(np.random.default_rng(0), *shape)
    got = linalg.inverse(r)
    assert relative(got, np.linalg.inv(r)) < 1e-12
    np.testing.assert_array_equal(got, adjoint(got))
    assert relative(linalg.inverse(r.astype(np.complex64)), got) < 5e-6


@pytest.mark.parametrize("shape", [(1,), (2, 5), (1, 18)], ids=str)
def test_backward_is_the_derivative(shape, check_gradient):
    r = positive(np.random.default_rng(1), *shape)
    check_gradient(linalg.inverse, lambda dy: linalg.inverse_backward(dy, r), r)


@pytest.mark.reference
def test_backward_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    r, dy = positive(rng, 3, 40), complex_normal(rng, 3, 40, 40)
    x = torch.tensor(r, requires_grad=True)
    torch.linalg.inv(x).backward(torch.tensor(dy))
    assert relative(linalg.inverse_backward(dy, r), hermitian_part(x.grad.numpy())) < 1e-9


def test_float_agrees_with_double_at_every_scale(check_scales):
    rng = np.random.default_rng(3)
    r, dy = positive(rng, 40), complex_normal(rng, 40, 40)
    check_scales(linalg.inverse, -1, r, tolerance=4e-6)
    check_scales(lambda r, dy: linalg.inverse_backward(dy, r), -2, r, dy, tolerance=8e-6)
    check_scales(lambda dy, r: linalg.inverse_backward(dy, r), 1, dy, r, tolerance=8e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-38, 1e-19, 1e19, 1e38])
def test_extremes(dtype, size):
    r = (np.eye(5) * size).astype(dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(linalg.inverse(r) * size, np.eye(5), rtol=1e-6, atol=0)
        if size == 1e19:
            assert linalg.inverse_backward(np.eye(5, dtype=dtype), r)[2, 2] == pytest.approx(-1 / size**2, rel=1e-5)
    if size == 1e-38 and dtype == np.complex64:
        with pytest.raises(ValueError, match="beyond the range of complex64"):
            linalg.inverse_backward(np.eye(5, dtype=dtype), r)


def test_an_indefinite_matrix_is_refused():
    r = -np.eye(2, dtype=np.complex64)
    for call in (lambda: linalg.inverse(r), lambda: linalg.inverse_backward(r, r)):
        with pytest.raises(NotPositiveDefiniteError) as e:
            call()
        assert (e.value.batch, e.value.pivot, e.value.value) == ((), 0, -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_empty(dtype, shape):
    r = np.zeros((*shape, shape[-1]), dtype)
    assert linalg.inverse(r).shape == linalg.inverse_backward(r, r).shape == r.shape


def test_what_inverse_gave_is_taken():
    r = positive(np.random.default_rng(9), 3, 20) * 1e-6
    dy, y = hermitian(np.random.default_rng(10), 3, 20), linalg.inverse(r)
    want = linalg.inverse_backward(dy, r)
    assert relative(linalg.inverse_backward(dy, r, y), want) < 1e-13
    assert relative(linalg.inverse_backward(dy, np.nan * r, y), want) < 1e-13  # r is not read
    with pytest.raises(ValueError, match=r"batch entry \(1,\): y must be Hermitian"):
        linalg.inverse_backward(dy, r, y + np.tri(20) * 1j * np.array([0, 1e5, 0])[:, None, None])
    with pytest.raises(ValueError, match="y must have shape"):
        linalg.inverse_backward(dy, r, y[:1])


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    rng = np.random.default_rng(4)
    r, dy = (each.astype(np.complex64) for each in (positive(rng, 9, 37), complex_normal(rng, 9, 37, 37)))
    check_threads(lambda: (linalg.inverse(r), linalg.inverse_backward(dy, r)))
