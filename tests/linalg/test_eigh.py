"""eigh and its backward: also where eigenvalues are equal, and what of it has no gradient."""

from __future__ import annotations

import ctypes

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
from processes import started

from loopos import linalg


def unitary(rng, n):
    return np.linalg.qr(complex_normal(rng, n, n))[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_the_decomposition(shape):
    r = hermitian(np.random.default_rng(0), *shape)
    w, v = linalg.eigh(r)
    np.testing.assert_allclose(w, np.linalg.eigvalsh(r), rtol=1e-10, atol=1e-12)
    assert np.all(np.diff(w) >= 0)
    assert relative((v * w[..., None, :]) @ adjoint(v), r) < 1e-13
    assert relative(adjoint(v) @ v, np.broadcast_to(np.eye(shape[-1]), r.shape)) < 1e-13
    single, vectors = linalg.eigh(r.astype(np.complex64))
    assert (single.dtype, vectors.dtype) == (np.float32, np.complex64)
    assert relative(single, w) < 2e-6
    assert relative((vectors * single[..., None, :]) @ adjoint(vectors), r) < 4e-6


def _shapes_of_matrices():
    """By name: what a way to a tridiagonal matrix, or the rotations of it, could trip over."""
    rng = np.random.default_rng(17)
    apart = np.zeros((40, 40), complex)
    for begin, scale in ((0, 1.0), (10, 1e-12), (20, 1e-28), (30, 1e-37)):
        apart[begin : begin + 10, begin : begin + 10] = scale * hermitian(rng, 10)
    tail = np.diag(np.arange(1.0, 31)).astype(complex)
    tail[0, 29], tail[29, 0] = 1e-25j, -1e-25j
    powers = 2.0 ** -np.arange(60)
    yield "zero", np.zeros((30, 30), complex)
    yield "diagonal", np.diag(rng.standard_normal(30)).astype(complex)
    yield "real", hermitian(rng, 30).real.astype(complex)
    yield "imaginary", 1j * hermitian(rng, 30).imag
    yield "tridiagonal", np.diag(2 + 0j * np.arange(50)) + np.diag(1j * np.ones(49), 1) - np.diag(1j * np.ones(49), -1)
    yield "blocks of other scales", apart
    yield "a small number in the corner", tail
    yield "graded", powers[:, None] * hermitian(rng, 60) * powers
    yield "rank one", np.ones((70, 70), complex)
    yield "clusters", with_eigenvalues(np.repeat([0, 1, 1 + 1e-9, 5], 12))
    for n in (2, 3, 15, 16, 17, 24, 25, 26, 49, 50, 97, 150):  # about whole vectors and whole groups of reflections
        yield f"n = {n}", hermitian(rng, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("r", [pytest.param(r, id=name) for name, r in _shapes_of_matrices()])
def test_vectors_are_orthonormal_whatever_the_matrix(r, dtype):
    r = r.astype(dtype)
    w, v = (each.astype(complex) for each in linalg.eigh(r))
    n, epsilon = len(r), np.finfo(dtype).eps
    largest = np.abs(r).max()
    assert np.abs(adjoint(v) @ v - np.eye(n)).max() < 8 * n**0.5 * epsilon
    assert np.abs(v * w @ adjoint(v) - r).max() <= 8 * n**0.5 * epsilon * max(largest, np.abs(w).max())
    assert np.abs(w - np.linalg.eigvalsh(r.astype(complex))).max() <= 8 * n**0.5 * epsilon * np.abs(w).max()


IN_FULL_MEMORY = """
import ctypes
assert ctypes.CDLL(None).mallopt(-6, 256) == 1  # M_PERTURB: memory is handed out full of 0xff, which are NaNs
import numpy as np
from loopos import linalg
rng = np.random.default_rng(0)
for dtype in ("complex64", "complex128"):
    for n in (1, 2, 5, 17, 20, 31):
        a = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
        r = (a @ a.conj().T + np.eye(n)).astype(dtype)
        w, v = linalg.eigh(r)
        found = [w, v, linalg.eigh_backward(w, None, w, v), linalg.cholesky(r), linalg.inverse(r), linalg.logdet(r)]
        found += [linalg.solve(r, r), linalg.spectral_function(r, "log"), linalg.sample_covariance(r)]
        assert all(np.isfinite(each).all() for each in found), (dtype, n)
"""


@pytest.mark.unsanitized("of another allocator, which has no mallopt")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_what_stood_in_memory_before_makes_no_difference():
    """Lanes beyond a row's numbers are read with whole vectors: a NaN there must not get into a sum."""
    run = started("-c", IN_FULL_MEMORY)
    assert run.returncode == 0, run.stderr


def weights(n):
    """Real numbers of a loss sum c |v|^2 + sum d w, which no phase changes."""
    rng = np.random.default_rng(99)
    return rng.standard_normal((n, n)), rng.standard_normal(n)


def loss(r):
    c, d = weights(r.shape[-1])
    w, v = linalg.eigh(r)
    return float((c * np.abs(v) ** 2).sum() + (d * w).sum())


def gradients(r):
    """dw, dv, w, v of the loss."""
    c, d = weights(r.shape[-1])
    w, v = linalg.eigh(r)
    return np.broadcast_to(d, w.shape).astype(w.dtype), (2 * c * v).astype(v.dtype), w, v


@pytest.mark.parametrize("shape", [(1,), (2, 5), (1, 9)], ids=str)
def test_backward_is_the_derivative(shape):
    r = hermitian(np.random.default_rng(1), *shape)
    want = real_gradient(loss, r, hermitian=True)
    got = linalg.eigh_backward(*gradients(r))
    assert np.any(got != 0)
    assert relative(got, want) < 1e-6
    assert relative(1.001 * got, want) > 1e-6  # a planted error of 0.1 %
    np.testing.assert_array_equal(got, adjoint(got))
    dw, dv, w, v = gradients(r)
    alone = linalg.eigh_backward(dw, None, w, v) + linalg.eigh_backward(None, dv, w, v)
    assert relative(alone, got) < 1e-13
    of_values = linalg.eigh_backward(dw, None, w, v)  # takes a shorter way
    assert relative(of_values, linalg.eigh_backward(dw, 0 * dv, w, v)) < 1e-13
    np.testing.assert_array_equal(of_values, adjoint(of_values))


@pytest.mark.reference
def test_backward_is_that_of_torch():
    torch = pytest.importorskip("torch")
    r = hermitian(np.random.default_rng(2), 3, 20)
    c, d = (torch.tensor(each) for each in weights(20))
    x = torch.tensor(r, requires_grad=True)
    w, v = torch.linalg.eigh(x)
    ((c * v.abs() ** 2).sum() + (d * w).sum()).backward()
    assert relative(linalg.eigh_backward(*gradients(r)), hermitian_part(x.grad.numpy())) < 1e-9


@pytest.mark.reference
def test_backward_is_that_of_jax():
    jax = pytest.importorskip("jax")
    r = hermitian(np.random.default_rng(3), 12)
    c, d = weights(12)
    with jax.enable_x64(True):

        def value(x):
            w, v = jax.numpy.linalg.eigh(x, symmetrize_input=True)
            return (c * abs(v) ** 2).sum() + (d * w).sum()

        theirs = np.conj(np.asarray(jax.grad(value)(r)))  # JAX gives the conjugate
    assert relative(linalg.eigh_backward(*gradients(r)), hermitian_part(theirs)) < 1e-9


@pytest.mark.parametrize("exponent", [-100, -60, 0, 60, 100])
def test_float_agrees_with_double_at_every_scale(exponent):
    r = hermitian(np.random.default_rng(4), 20).astype(np.complex64)
    w, v = linalg.eigh(r)
    scaled, vectors = linalg.eigh(r * np.float32(2.0**exponent))
    np.testing.assert_array_equal(scaled, w * np.float32(2.0**exponent))
    np.testing.assert_array_equal(vectors, v)
    dw, dv, _, _ = gradients(r)
    want = linalg.eigh_backward(*gradients(r.astype(complex)))
    for of_w, of_v in ((dw, None), (None, dv)):
        whole = linalg.eigh_backward(of_w, of_v, w, v)
        got = linalg.eigh_backward(of_w, of_v, scaled, vectors)
        np.testing.assert_array_equal(got, whole if of_v is None else whole * np.float32(2.0**-exponent))
    assert relative(linalg.eigh_backward(dw, dv, w, v), want) < 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-38, 1e-19, 1e19, 1e37])
def test_extremes(dtype, size):
    r = (np.diag([3.0, -1, 2]) * size).astype(dtype)
    w, v = linalg.eigh(r)
    np.testing.assert_allclose(w / size, [-1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(np.abs(v), np.eye(3)[[1, 2, 0]].T, atol=1e-6)
    zero = linalg.eigh(np.zeros((3, 3), dtype))
    np.testing.assert_array_equal(zero[0], [0, 0, 0])
    np.testing.assert_allclose(adjoint(zero[1]) @ zero[1], np.eye(3))
    with pytest.raises(ValueError, match="eigenvalue 1 is beyond the range of complex"):
        linalg.eigh(np.full((2, 2), np.finfo(dtype).max * 0.9, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loss_of_a_phase_is_refused(dtype):
    w, v = linalg.eigh(hermitian(np.random.default_rng(5), 2, 6).astype(dtype))
    dv = np.zeros_like(v)
    dv[1, :, 4] = 1j * v[1, :, 4]  # of the angle of that vector
    with pytest.raises(
        ValueError, match=r"batch entry \(1,\): dv depends on the phase of eigenvector 4, which nothing"
    ):
        linalg.eigh_backward(None, dv, w, v)
    np.testing.assert_allclose(linalg.eigh_backward(None, -1j * dv, w, v), 0, atol=1e-5)  # of its length: fixed


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_eigenvalues(dtype):
    rng = np.random.default_rng(6)
    u = unitary(rng, 5)
    r = hermitian_part((u * [1, 1, 2, 3, 3]) @ adjoint(u)).astype(dtype)
    w, v = linalg.eigh(r)
    c = hermitian(rng, 5)
    signal = v[:, 3:]
    dv = np.zeros_like(v)
    dv[:, 3:] = 2 * c.astype(dtype) @ signal  # of tr(C P), P the projector onto the two that are equal
    got = linalg.eigh_backward(None, dv, w, v)
    tolerance = 1e-5 if dtype == np.complex64 else 1e-13
    assert relative(got, linalg.projector_backward(c.astype(dtype), r, 2)) < 10 * tolerance
    total = linalg.eigh_backward(np.ones(5, w.dtype), None, w, v)  # of the trace
    assert relative(total, np.eye(5)) < tolerance
    for wrong, sentence in (
        ((np.array([0, 0, 0, 1, 0], w.dtype), None), "dw differs between them"),
        ((None, 2 * (np.arange(5) * (c @ v)).astype(dtype)), "dv depends on which vectors of their span were taken"),
        ((np.ones(5, w.dtype), dv), "whose common derivative dw and dv do not tell"),
    ):
        with pytest.raises(ValueError, match=f"eigenvalues [03] and [14] are equal .*{sentence}.*spectral_function"):
            linalg.eigh_backward(*wrong, w, v)


def test_refusals():
    w, v = linalg.eigh(np.eye(3, dtype=complex))
    with pytest.raises(ValueError, match=r"eigh_backward: dw must be finite, got nan as element \(0,\)"):
        linalg.eigh_backward(np.full(3, np.nan), None, w, v)
    with pytest.raises(ValueError, match="eigenvalues must be finite and ascend"):
        linalg.eigh_backward(w, None, np.array([3.0, 2, 1]), v)
    with pytest.raises(ValueError, match=r"eigh_backward: dw must have shape \(3,\), got \(2,\)"):
        linalg.eigh_backward(w[:2], None, w, v)
    with pytest.raises(ValueError, match=r"eigh: r must be finite"):
        linalg.eigh(np.full((3, 3), np.nan + 0j))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_empty(dtype, shape):
    w, v = linalg.eigh(np.zeros((*shape, shape[-1]), dtype))
    assert (w.shape, v.shape) == (shape, (*shape, shape[-1]))
    assert linalg.eigh_backward(w, v, w, v).shape == v.shape


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    r = hermitian(np.random.default_rng(7), 9, 37).astype(np.complex64)
    check_threads(lambda: (*linalg.eigh(r), linalg.eigh_backward(*gradients(r))))
