"""sample_covariance and its backward."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import DTYPES, adjoint, complex_normal, hermitian, relative

from loopos import linalg


def reference(a, center):
    a = a - a.mean(-2, keepdims=True) if center else a
    return np.einsum("...li,...lj->...ij", a, a.conj()) / a.shape[-2]


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 7, 5), (2, 40, 17), (300, 33), (1, 513, 3), (3, 50)], ids=str)
def test_forward_is_the_mean_of_outer_products(shape, center):
    a = complex_normal(np.random.default_rng(0), *shape) + 2
    got = linalg.sample_covariance(a, center)
    np.testing.assert_allclose(got, reference(a, center), rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(got, adjoint(got))
    assert relative(linalg.sample_covariance(a.astype(np.complex64), center), got) < 1e-6 or shape == (1, 1)


def test_the_conjugate_is_of_the_second_index():
    a = np.array([[1, 1j]])
    np.testing.assert_array_equal(linalg.sample_covariance(a), [[1, -1j], [1j, 1]])  # R[0, 1] = 1 conj(i)


@pytest.mark.parametrize(
    ("shape", "center"),
    [((2, 3, 5), False), ((2, 3, 5), True), ((4, 1), False), ((4, 1), True), ((1, 17), False)],
    ids=str,
)
def test_backward_is_the_derivative(shape, center, check_gradient):
    a = complex_normal(np.random.default_rng(1), *shape)
    check_gradient(
        lambda a: linalg.sample_covariance(a, center),
        lambda dr: linalg.sample_covariance_backward(dr, a, center),
        a,
        hermitian=False,
    )


@pytest.mark.reference
@pytest.mark.parametrize("center", [False, True])
def test_backward_is_that_of_torch(center):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    a, dr = complex_normal(rng, 3, 20, 40), complex_normal(rng, 3, 40, 40)
    x = torch.tensor(a, requires_grad=True)
    c = x - x.mean(1, keepdim=True) if center else x
    (c.mT @ c.conj() / 20).backward(torch.tensor(dr))
    assert relative(linalg.sample_covariance_backward(dr, a, center), x.grad.numpy()) < 1e-9


@pytest.mark.parametrize("center", [False, True])
def test_float_agrees_with_double_at_every_scale(center, check_scales):
    rng = np.random.default_rng(3)
    a, dr = complex_normal(rng, 60, 40) + 1, hermitian(rng, 40)
    check_scales(lambda a: linalg.sample_covariance(a, center), 2, a)
    check_scales(lambda a, dr: linalg.sample_covariance_backward(dr, a, center), 1, a, dr)
    check_scales(lambda dr, a: linalg.sample_covariance_backward(dr, a, center), 1, dr, a)


def test_a_large_mean_is_taken_off_without_loss():
    a = complex_normal(np.random.default_rng(4), 500, 5)
    want = reference(a, True)
    offset = (a + 1000).astype(np.complex64)
    assert relative(linalg.sample_covariance(offset, True), want) < 1e-4  # of rounding a + 1000


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes(dtype):
    a = np.ones((4, 3), dtype)
    for size in (1e-19, 1e19):
        np.testing.assert_allclose(linalg.sample_covariance(a * dtype(size)), np.full((3, 3), size**2), rtol=1e-5)
    np.testing.assert_array_equal(linalg.sample_covariance(a, center=True), np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"batch entry \(1,\): the result is beyond the range of complex"):
        linalg.sample_covariance(np.stack([a, a * dtype(1e38 if dtype == np.complex64 else 1e300)]))
    a[2, 1] = np.inf
    with pytest.raises(ValueError, match=r"sample_covariance: snapshots must be finite, got inf.* as element \(2, 1\)"):
        linalg.sample_covariance(a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty(dtype):
    assert linalg.sample_covariance(np.zeros((0, 5, 4), dtype)).shape == (0, 4, 4)
    assert linalg.sample_covariance(np.zeros((2, 5, 0), dtype)).shape == (2, 0, 0)
    with pytest.raises(ValueError, match=r"at least one snapshot \(..., L, N\), got shape \(2, 0, 4\)"):
        linalg.sample_covariance(np.zeros((2, 0, 4), dtype))


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    rng = np.random.default_rng(5)
    a, dr = complex_normal(rng, 9, 300, 20).astype(np.complex64), complex_normal(rng, 9, 20, 20).astype(np.complex64)
    check_threads(lambda: (linalg.sample_covariance(a, True), linalg.sample_covariance_backward(dr, a, True)))


def test_views_equal_their_copies():
    a = complex_normal(np.random.default_rng(6), 6, 10, 8)
    for view in (a[::2, ::-1], a[..., 1::3], np.swapaxes(a, 1, 2)):
        np.testing.assert_array_equal(linalg.sample_covariance(view), linalg.sample_covariance(view.copy()))
