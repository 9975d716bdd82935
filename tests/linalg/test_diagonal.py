"""trace, load_diagonal and their backwards."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import DTYPES, SHAPES, complex_normal, real_gradient

from loopos import linalg


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_the_formula(shape, dtype):
    r = complex_normal(np.random.default_rng(0), *shape, shape[-1]).astype(dtype)
    traces = linalg.trace(r)
    assert (traces.shape, traces.dtype) == (shape[:-1], r.real.dtype)
    np.testing.assert_allclose(traces, np.trace(r.astype(complex), axis1=-2, axis2=-1).real, rtol=1e-6, atol=1e-6)
    loaded = linalg.load_diagonal(r, 0.25)
    np.testing.assert_array_equal(loaded, r + dtype(0.25) * np.eye(shape[-1], dtype=dtype))


def test_backward_is_the_derivative(check_gradient):
    rng = np.random.default_rng(1)
    r, dy = complex_normal(rng, 2, 7, 7), complex_normal(rng, 2, 7, 7)
    check_gradient(linalg.trace, lambda dy: linalg.trace_backward(dy, r), r, hermitian=False)
    check_gradient(
        lambda r: linalg.load_diagonal(r, 0.3),
        lambda dy: linalg.load_diagonal_backward(dy, r, 0.3)[0],
        r,
        hermitian=False,
    )
    deps = linalg.load_diagonal_backward(dy, r, 0.3)[1]
    want = real_gradient(lambda e: np.vdot(dy, linalg.load_diagonal(r, e.real.item())).real, np.array([0.3 + 0j]))
    assert deps == pytest.approx(want[0].real, rel=1e-7)
    assert deps * 1.001 != pytest.approx(want[0].real, rel=1e-7)


@pytest.mark.reference
def test_backward_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    r, dy = complex_normal(rng, 3, 20, 20), complex_normal(rng, 3, 20, 20)
    x, eps = torch.tensor(r, requires_grad=True), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    (x + eps * torch.eye(20, dtype=torch.float64)).backward(torch.tensor(dy))
    dr, deps = linalg.load_diagonal_backward(dy, r, 0.5)
    np.testing.assert_array_equal(dr, x.grad.numpy())
    assert deps == pytest.approx(eps.grad.item(), rel=1e-12)


def test_a_trace_is_summed_in_double():
    r = np.diag([1e8, 1, -1e8]).astype(np.complex64)
    assert linalg.trace(r) == 1
    dy = np.stack([np.diag([1e8, 1, 0]), np.diag([-1e8, 0, 0])]).astype(np.complex64)
    assert linalg.load_diagonal_backward(dy, dy, 0.5)[1] == 1  # over the batch, too


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_go_through(dtype):
    for size in (1e-38, 1e-19, 1e19, 1e38):
        r = np.eye(3, dtype=dtype) * dtype(size)
        assert linalg.trace(r) == pytest.approx(3 * size, rel=1e-6)
        assert linalg.load_diagonal(r, size)[1, 1] == pytest.approx(2 * size, rel=1e-6)
    assert np.isnan(linalg.trace(r * np.nan))
    assert linalg.trace(np.zeros((0, 3, 3), dtype)).shape == (0,)
    np.testing.assert_array_equal(linalg.trace(np.zeros((2, 0, 0), dtype)), [0, 0])
    assert linalg.load_diagonal_backward(np.zeros((0, 3, 3), dtype), np.zeros((0, 3, 3), dtype), 1.0)[1] == 0


def test_refusals():
    r = np.eye(3, dtype=complex)
    for eps in (np.nan, np.inf):
        with pytest.raises(ValueError, match="load_diagonal: eps must be finite"):
            linalg.load_diagonal(r, eps)
    with pytest.raises(TypeError, match="load_diagonal: eps must be a float, got a complex"):
        linalg.load_diagonal(r, 1j)
    with pytest.raises(ValueError, match=r"trace_backward: dy must have shape \(1,\), got \(2,\)"):
        linalg.trace_backward(np.ones(2), r[None])


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    r = complex_normal(np.random.default_rng(3), 40, 30, 30).astype(np.complex64)
    check_threads(lambda: (linalg.trace(r), linalg.load_diagonal(r, 0.1), *linalg.load_diagonal_backward(r, r, 0.1)))
