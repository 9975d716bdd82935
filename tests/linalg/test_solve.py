"""solve and its backward."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import DTYPES, SHAPES, adjoint, complex_normal, hermitian_part, positive, relative

from loopos import linalg
from loopos.errors import NotPositiveDefiniteError


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_that_of_numpy(shape, k):
    rng = np.random.default_rng(0)
    r, b = positive(rng, *shape), complex_normal(rng, *shape, k)
    got = linalg.solve(r, b)
    assert got.shape == b.shape
    assert relative(got, np.linalg.solve(r, b)) < 1e-12
    assert relative(linalg.solve(r.astype(np.complex64), b.astype(np.complex64)), got) < 5e-6


@pytest.mark.parametrize(("shape", "k"), [((1,), 1), ((2, 5), 3), ((1, 18), 2)], ids=str)
def test_backward_is_the_derivative(shape, k, check_gradient):
    rng = np.random.default_rng(1)
    r, b = positive(rng, *shape), complex_normal(rng, *shape, k)
    check_gradient(lambda r: linalg.solve(r, b), lambda dx: linalg.solve_backward(dx, r, b)[0], r)
    check_gradient(lambda b: linalg.solve(r, b), lambda dx: linalg.solve_backward(dx, r, b)[1], b, hermitian=False)


@pytest.mark.reference
@pytest.mark.parametrize("k", [1, 7])
def test_backward_is_that_of_torch(k):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    r, b, dx = positive(rng, 3, 40), complex_normal(rng, 3, 40, k), complex_normal(rng, 3, 40, k)
    x, y = torch.tensor(r, requires_grad=True), torch.tensor(b, requires_grad=True)
    torch.linalg.solve(x, y).backward(torch.tensor(dx))
    dr, db = linalg.solve_backward(dx, r, b)
    assert relative(dr, hermitian_part(x.grad.numpy())) < 1e-9
    assert relative(db, y.grad.numpy()) < 1e-9


def test_float_agrees_with_double_at_every_scale(check_scales):
    rng = np.random.default_rng(3)
    r, b, dx = positive(rng, 40), complex_normal(rng, 40, 3), complex_normal(rng, 40, 3)
    check_scales(linalg.solve, -1, r, b, tolerance=4e-6)
    check_scales(lambda b, r: linalg.solve(r, b), 1, b, r, tolerance=4e-6)
    for which in (0, 1):
        check_scales(
            lambda r, b, dx, i=which: linalg.solve_backward(dx, r, b)[i], which - 2, r, b, dx, tolerance=8e-6, reach=60
        )
        check_scales(lambda b, r, dx, i=which: linalg.solve_backward(dx, r, b)[i], 1 - which, b, r, dx, tolerance=8e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-38, 1e-19, 1e19, 1e38])
def test_extremes(dtype, size):
    r, b = (np.eye(5) * size).astype(dtype), (np.ones((5, 2)) * size).astype(dtype)
    np.testing.assert_allclose(linalg.solve(r, b), np.ones((5, 2)), rtol=1e-6)


def test_it_is_backward_stable_where_the_condition_is_bad():
    rng = np.random.default_rng(4)
    v = np.linalg.qr(complex_normal(rng, 40, 40))[0]
    r = (v * np.logspace(-5, 0, 40)) @ adjoint(v)
    r, b = hermitian_part(r).astype(np.complex64), complex_normal(rng, 40, 1).astype(np.complex64)
    x = linalg.solve(r, b).astype(complex)
    assert np.linalg.norm(r.astype(complex) @ x - b) < 1e-6 * np.linalg.norm(r) * np.linalg.norm(x)


def test_refusals():
    r, b = np.eye(3, dtype=complex), np.ones((3, 2), complex)
    with pytest.raises(ValueError, match=r"solve: b must have shape \(..., N, K\) with r \(..., N, N\), got r"):
        linalg.solve(r, b[:2])
    with pytest.raises(ValueError, match="solve: b must be finite"):
        linalg.solve(r, b * np.nan)
    with pytest.raises(NotPositiveDefiniteError, match="solve_backward: r must be positive definite, but pivot 0"):
        linalg.solve_backward(b, -r, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "n", "k"), [(0, 4, 2), (3, 0, 2), (3, 4, 0)])
def test_empty(dtype, batch, n, k):
    r, b = np.broadcast_to(np.eye(n, dtype=dtype), (batch, n, n)), np.zeros((batch, n, k), dtype)
    assert linalg.solve(r, b).shape == b.shape
    dr, db = linalg.solve_backward(b, r, b)
    assert (dr.shape, db.shape) == (r.shape, b.shape)
    assert not dr.any()


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    rng = np.random.default_rng(5)
    r, b = (each.astype(np.complex64) for each in (positive(rng, 9, 37), complex_normal(rng, 9, 37, 4)))
    check_threads(lambda: (linalg.solve(r, b), *linalg.solve_backward(b, r, b)))
