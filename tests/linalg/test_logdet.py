"""logdet and its backward."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import DTYPES, SHAPES, positive, relative

from loopos import linalg
from loopos.errors import NotPositiveDefiniteError


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_that_of_numpy(shape):
    r = positive(np.random.default_rng(0), *shape)
    want = np.linalg.slogdet(r)[1]
    got = linalg.logdet(r)
    assert (got.shape, got.dtype) == (shape[:-1], np.float64)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)
    single = linalg.logdet(r.astype(np.complex64))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, want, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("shape", [(1,), (2, 5), (1, 18)], ids=str)
def test_backward_is_the_derivative(shape, check_gradient):
    r = positive(np.random.default_rng(1), *shape)
    check_gradient(linalg.logdet, lambda dy: linalg.logdet_backward(dy, r), r)


@pytest.mark.reference
def test_backward_is_that_of_torch():
    torch = pytest.importorskip("torch")
    r, dy = positive(np.random.default_rng(2), 3, 40), np.array([1.0, -2, 0.5])
    x = torch.tensor(r, requires_grad=True)
    torch.linalg.slogdet(x).logabsdet.backward(torch.tensor(dy))
    assert relative(linalg.logdet_backward(dy, r), x.grad.numpy()) < 1e-9


def test_it_is_finite_where_the_determinant_is_not(check_scales):
    r = positive(np.random.default_rng(3), 144)
    base = linalg.logdet(r)
    for exponent in (-120, -62, 62, 120):
        got = linalg.logdet((r * 2.0**exponent).astype(np.complex64))
        assert got == pytest.approx(base + 144 * exponent * np.log(2), rel=1e-6)
    check_scales(lambda r: linalg.logdet_backward(1.0, r), -1, r)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-37, 1e-19, 1e19, 1e37])
def test_extremes(dtype, size):
    r = (np.eye(5) * size).astype(dtype)
    assert linalg.logdet(r) == pytest.approx(5 * np.log(size), rel=1e-6)
    assert linalg.logdet_backward(1.0, r)[0, 0] == pytest.approx(1 / size, rel=1e-6)
    with pytest.raises(ValueError, match="logdet_backward: dy must be finite, got inf"):
        linalg.logdet_backward(np.inf, r)


def test_a_gradient_beyond_the_range_is_refused():
    r = np.full((2, 1, 1), 1e-30, np.complex64)
    with pytest.raises(ValueError, match=r"batch entry \(1,\): the result is beyond the range of complex64; scale"):
        linalg.logdet_backward(np.array([1, 1e30], np.float32), r)


def test_an_indefinite_matrix_is_refused():
    r = np.stack([np.eye(3), np.diag([1.0, -2, 1])]).astype(complex)
    for call in (lambda: linalg.logdet(r), lambda: linalg.logdet_backward(np.ones(2), r)):
        with pytest.raises(NotPositiveDefiniteError) as e:
            call()
        assert (e.value.batch, e.value.pivot, e.value.value) == ((1,), 1, -2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty(dtype):
    assert linalg.logdet(np.zeros((0, 4, 4), dtype)).shape == (0,)
    np.testing.assert_array_equal(linalg.logdet(np.zeros((2, 0, 0), dtype)), [0, 0])
    assert linalg.logdet_backward(np.zeros(0, dtype).real, np.zeros((0, 4, 4), dtype)).shape == (0, 4, 4)


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    r = positive(np.random.default_rng(4), 9, 37).astype(np.complex64)
    check_threads(lambda: (linalg.logdet(r), linalg.logdet_backward(np.ones(9, np.float32), r)))
