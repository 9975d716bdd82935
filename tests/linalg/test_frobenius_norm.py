"""frobenius_norm and its backward."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import DTYPES, complex_normal, relative

from loopos import linalg


@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 5, 7), (2, 144, 144)], ids=str)
def test_forward_is_that_of_numpy(shape):
    x = complex_normal(np.random.default_rng(0), *shape)
    got = linalg.frobenius_norm(x)
    np.testing.assert_allclose(got, np.linalg.norm(x, axis=(-2, -1)), rtol=1e-13)
    single = linalg.frobenius_norm(x.astype(np.complex64))
    assert (single.dtype, single.shape) == (np.float32, shape[:-2])
    np.testing.assert_allclose(single, got, rtol=2e-7)


def test_backward_is_the_derivative(check_gradient):
    x = complex_normal(np.random.default_rng(1), 2, 5, 4)
    check_gradient(linalg.frobenius_norm, lambda dy: linalg.frobenius_norm_backward(dy, x), x, hermitian=False)


@pytest.mark.reference
def test_backward_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x = complex_normal(np.random.default_rng(2), 3, 20, 20)
    y = torch.tensor(x, requires_grad=True)
    torch.linalg.matrix_norm(y).backward(torch.tensor([1.0, -2, 3], dtype=torch.float64))
    assert relative(linalg.frobenius_norm_backward(np.array([1.0, -2, 3]), x), y.grad.numpy()) < 1e-14


def test_float_agrees_with_double_at_every_scale(check_scales):
    x = complex_normal(np.random.default_rng(3), 2, 30, 30)
    check_scales(linalg.frobenius_norm, 1, x)
    check_scales(lambda x: linalg.frobenius_norm_backward(np.array([1, -2], x.real.dtype), x), 0, x)


EXTREMES = [(dtype, size) for dtype in DTYPES for size in (1e-38, 1e-19, 1e19, 1e37)]


@pytest.mark.parametrize(("dtype", "size"), [*EXTREMES, (np.complex128, 1e-300), (np.complex128, 1e300)])
def test_nothing_overflows_or_vanishes(dtype, size):
    x = np.full((3, 3), size, dtype)
    assert linalg.frobenius_norm(x) == pytest.approx(3 * size, rel=1e-6)
    np.testing.assert_allclose(linalg.frobenius_norm_backward(1.0, x), np.full((3, 3), 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_nan_and_infinity(dtype):
    zero = np.zeros((2, 3, 3), dtype)
    np.testing.assert_array_equal(linalg.frobenius_norm(zero), [0, 0])
    np.testing.assert_array_equal(linalg.frobenius_norm_backward(np.ones(2, zero.real.dtype), zero), zero)
    for value in (np.nan, np.inf):
        x = zero.copy()
        x[1, 2, 2] = value
        np.testing.assert_array_equal(linalg.frobenius_norm(x), [0, value])
        with pytest.raises(ValueError, match=r"batch entry \(1,\): x must be finite to have a gradient"):
            linalg.frobenius_norm_backward(np.ones(2, zero.real.dtype), x)
    assert linalg.frobenius_norm(np.zeros((0, 3, 3), dtype)).shape == (0,)
    np.testing.assert_array_equal(linalg.frobenius_norm(np.zeros((2, 0, 3), dtype)), [0, 0])


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    x = complex_normal(np.random.default_rng(4), 9, 60, 60).astype(np.complex64)
    check_threads(lambda: (linalg.frobenius_norm(x), linalg.frobenius_norm_backward(np.ones(9, np.float32), x)))
