"""hermitize and its backward."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import DTYPES, SHAPES, adjoint, complex_normal, hermitian_part, relative

from loopos import linalg


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_the_hermitian_part(shape, dtype):
    r = complex_normal(np.random.default_rng(0), *shape, shape[-1]).astype(dtype)
    got = linalg.hermitize(r)
    assert got.dtype == dtype
    assert relative(got, hermitian_part(r)) < 1e-7
    np.testing.assert_array_equal(got, adjoint(got))
    np.testing.assert_array_equal(linalg.hermitize(got), got)


def test_backward_is_the_derivative(check_gradient):
    r = complex_normal(np.random.default_rng(1), 2, 9, 9)
    check_gradient(linalg.hermitize, lambda dy: linalg.hermitize_backward(dy, r), r, hermitian=False)


@pytest.mark.reference
def test_backward_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    r, dy = complex_normal(rng, 3, 20, 20), complex_normal(rng, 3, 20, 20)
    x = torch.tensor(r, requires_grad=True)
    ((x + x.mH) / 2).backward(torch.tensor(dy))
    assert relative(linalg.hermitize_backward(dy, r), x.grad.numpy()) < 1e-15


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_go_through(dtype):
    for size in (1e-38, 1e-19, 1e19, 1e38, 3e38):
        r = np.full((3, 3), size, dtype)
        np.testing.assert_allclose(linalg.hermitize(r), r, rtol=1e-6)
    r[0, 1] = np.nan
    got = linalg.hermitize(r)
    assert np.isnan(got[0, 1])
    assert np.isnan(got[1, 0])
    assert np.isnan(got).sum() == 2
    r[0, 1], r[2, 2] = 1, 1 + 1j * np.nan  # of the imaginary part of a diagonal, too
    assert np.isnan(linalg.hermitize(r)).sum() == 1
    assert linalg.hermitize(np.zeros((0, 3, 3), dtype)).shape == (0, 3, 3)


def test_refusals():
    r = np.eye(3, dtype=complex)
    with pytest.raises(ValueError, match=r"hermitize_backward: dy must have shape \(2, 2\), got \(3, 3\)"):
        linalg.hermitize_backward(r, r[:2, :2])
    with pytest.raises(ValueError, match="must be square"):
        linalg.hermitize(r[:2])


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    r = complex_normal(np.random.default_rng(3), 9, 100, 100).astype(np.complex64)
    check_threads(lambda: (linalg.hermitize(r),))
