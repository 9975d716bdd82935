"""spectral_function and its backward, also where eigenvalues are equal, beside PyTorch and JAX."""

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
    positive,
    real_gradient,
    relative,
    with_eigenvalues,
)

from loopos import linalg
from loopos.errors import NotPositiveDefiniteError

FUNCTIONS = {"log": np.log, "sqrt": np.sqrt, "inverse_sqrt": lambda w: 1 / np.sqrt(w), "exp": np.exp}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def reference(r, name):
    w, v = np.linalg.eigh(r)
    return (v * FUNCTIONS[name](w)[..., None, :]) @ adjoint(v)


@every_function
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_the_function_of_the_eigenvalues(shape, name):
    r = positive(np.random.default_rng(0), *shape)
    got = linalg.spectral_function(r, name)
    assert relative(got, reference(r, name)) < 1e-12
    np.testing.assert_array_equal(got, adjoint(got))
    single = linalg.spectral_function(r.astype(np.complex64), name)
    assert relative(single, got) < (5e-5 if name == "exp" else 1e-5)  # e^w: what w is off, absolutely
    if name == "exp":
        negative = hermitian(np.random.default_rng(1), *shape)
        assert relative(linalg.spectral_function(negative, name), reference(negative, name)) < 1e-12


@every_function
@pytest.mark.parametrize("shape", [(1,), (2, 5), (1, 17)], ids=str)
def test_backward_is_the_derivative(shape, name, check_gradient):
    r = positive(np.random.default_rng(2), *shape)
    check_gradient(
        lambda r: linalg.spectral_function(r, name), lambda dy: linalg.spectral_function_backward(dy, r, name), r
    )


def by_hand(dy, r, w, name):
    """The gradient from the divided differences of the exact eigenvalues w, in the basis of numpy."""
    _, v = np.linalg.eigh(r)
    w = np.sort(w)
    f, slopes = FUNCTIONS[name](w), {"log": 1 / w, "sqrt": 0.5 / np.sqrt(w), "exp": np.exp(w)}
    slope = slopes.get(name, -0.5 * w**-1.5)
    gap = w[:, None] - w
    differences = np.where(gap == 0, slope[:, None], (f[:, None] - f) / np.where(gap == 0, 1, gap))
    return v @ (differences * (adjoint(v) @ hermitian_part(dy) @ v)) @ adjoint(v)


EQUAL = {
    "identity": [1.0] * 6,
    "pairs": [0.5, 0.5, 1.25, 1.25, 3, 3],
    "one apart": [1.0, 1, 1, 1, 1, 2],
    "nearly": [1, 1 + 2**-40, 1 + 2**-39, 2, 2, 2 + 2**-45],
}


@every_function
@pytest.mark.parametrize("case", ["identity", "pairs", "one apart"])
def test_it_is_right_at_equal_eigenvalues(case, name):
    w = EQUAL[case]
    dy = complex_normal(np.random.default_rng(4), 6, 6)
    for r in (with_eigenvalues(w), np.diag(w).astype(complex)):  # equal but for rounding, and exactly
        got = linalg.spectral_function_backward(dy, r, name)
        want = by_hand(dy, r, w, name)
        assert np.isfinite(got).all()
        assert relative(got, want) < 1e-12
        assert relative(1.001 * got, want) > 1e-7
        slope = real_gradient(lambda x: np.vdot(dy, linalg.spectral_function(x, name)).real, r, hermitian=True)
        assert relative(got, slope) < 1e-7
        assert (
            relative(linalg.spectral_function_backward(dy.astype(np.complex64), r.astype(np.complex64), name), want)
            < 1e-5
        )


def test_nearly_equal_eigenvalues_lose_no_digits():
    dy = complex_normal(np.random.default_rng(5), 6, 6)
    r = np.diag(EQUAL["nearly"]).astype(complex)
    equal = np.diag(np.round(EQUAL["nearly"])).astype(complex)
    for name in FUNCTIONS:
        near, at = (linalg.spectral_function_backward(dy, x, name) for x in (r, equal))
        assert relative(near, at) < 1e-11


@pytest.mark.reference
@every_function
def test_backward_is_that_of_torch_where_eigenvalues_differ(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    r, dy = positive(rng, 2, 20), complex_normal(rng, 2, 20, 20)
    f = {"log": torch.log, "sqrt": torch.sqrt, "inverse_sqrt": torch.rsqrt, "exp": torch.exp}[name]
    x = torch.tensor(r, requires_grad=True)
    w, v = torch.linalg.eigh(x)
    ((v * f(w)[..., None, :]) @ v.mH).backward(torch.tensor(dy))
    got = linalg.spectral_function_backward(dy, r, name)
    assert relative(got, hermitian_part(x.grad.numpy())) < 1e-9


@pytest.mark.reference
def test_at_equal_eigenvalues_torch_gives_no_number():
    torch = pytest.importorskip("torch")
    dy = hermitian(np.random.default_rng(7), 6)
    r = np.diag(EQUAL["pairs"]).astype(complex)
    x = torch.tensor(r, requires_grad=True)
    w, v = torch.linalg.eigh(x)
    (((v * torch.log(w)) @ v.mH) * torch.tensor(dy.conj())).real.sum().backward()
    assert not torch.isfinite(torch.view_as_real(x.grad)).all()
    got = linalg.spectral_function_backward(dy, r, "log")
    assert relative(got, by_hand(dy, r, EQUAL["pairs"], "log")) < 1e-12


@pytest.mark.reference
def test_at_equal_eigenvalues_jax_is_wrong():
    jax = pytest.importorskip("jax")
    dy = hermitian(np.random.default_rng(7), 6)
    r = np.diag(EQUAL["pairs"]).astype(complex)
    with jax.enable_x64(True):

        def value(x):
            w, v = jax.numpy.linalg.eigh(x, symmetrize_input=True)
            return ((v * jax.numpy.log(w)) @ v.conj().T * dy.conj()).real.sum()

        theirs = np.conj(np.asarray(jax.grad(value)(r)))
    want = by_hand(dy, r, EQUAL["pairs"], "log")
    error = relative(theirs, want)
    assert not error < 1e-2  # NaN, or a number that is wrong
    assert relative(linalg.spectral_function_backward(dy, r, "log"), want) < 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-37, 1e-19, 1e19, 1e37])
def test_extremes(dtype, size):
    r = (np.eye(4) * size).astype(dtype)
    np.testing.assert_allclose(linalg.spectral_function(r, "sqrt"), np.eye(4) * np.sqrt(size), rtol=1e-6)
    np.testing.assert_allclose(linalg.spectral_function(r, "log"), np.eye(4) * np.log(size), rtol=1e-6)
    np.testing.assert_allclose(linalg.spectral_function(r, "inverse_sqrt"), np.eye(4) / np.sqrt(size), rtol=1e-6)
    one = np.eye(4, dtype=dtype)
    np.testing.assert_allclose(linalg.spectral_function_backward(one, r, "log") * size, np.eye(4), rtol=1e-6)
    if size > 1:
        with pytest.raises(ValueError, match="is beyond the range of"):
            linalg.spectral_function(r, "exp")
    elif size == 1e-37 and dtype == np.complex64:
        with pytest.raises(ValueError, match="beyond the range of complex64"):
            linalg.spectral_function_backward(one, r, "inverse_sqrt")


@every_function
def test_what_is_not_positive_definite_is_refused(name):
    r = np.stack([np.eye(3), np.diag([1, -2, 3])]).astype(complex)
    if name == "exp":
        assert linalg.spectral_function(r, name)[1, 1, 1] == pytest.approx(np.exp(-2))
        return
    for call in (lambda: linalg.spectral_function(r, name), lambda: linalg.spectral_function_backward(r, r, name)):
        with pytest.raises(
            NotPositiveDefiniteError, match=r"entry \(1,\): r must be positive definite, but eigenvalue"
        ) as e:
            call()
        assert (e.value.batch, e.value.pivot) == ((1,), 0)
        assert e.value.value == pytest.approx(-2)


def test_refusals():
    with pytest.raises(
        ValueError, match="spectral_function: function must be one of 'log', 'sqrt', 'inverse_sqrt', 'exp', got 'x'"
    ):
        linalg.spectral_function(np.eye(2, dtype=complex), "x")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_empty(dtype, shape):
    r = np.zeros((*shape, shape[-1]), dtype)
    assert linalg.spectral_function(r, "log").shape == r.shape
    assert linalg.spectral_function_backward(r, r, "log").shape == r.shape


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    r = positive(np.random.default_rng(8), 9, 37).astype(np.complex64)
    check_threads(lambda: (linalg.spectral_function(r, "log"), linalg.spectral_function_backward(r, r, "log")))


@every_function
def test_what_eigh_gave_is_taken(name):
    rng = np.random.default_rng(9)
    r, dy = (each.astype(np.complex64) for each in (positive(rng, 3, 20), complex_normal(rng, 3, 20, 20)))
    eigen = linalg.eigh(r)
    np.testing.assert_array_equal(linalg.spectral_function(r, name, eigen), linalg.spectral_function(r, name))
    np.testing.assert_array_equal(
        linalg.spectral_function_backward(dy, r, name, eigen), linalg.spectral_function_backward(dy, r, name)
    )
    with pytest.raises(TypeError, match=r"spectral_function: eigen must be the tuple \(w, v\) that eigh gave, or None"):
        linalg.spectral_function(r, name, eigen[0])
    with pytest.raises(ValueError, match=r"eigen\[0\] must have shape \(3, 20\), got \(2, 20\)"):
        linalg.spectral_function(r, name, (eigen[0][:2], eigen[1]))
    with pytest.raises(ValueError, match=r"batch entry \(0,\): the eigenvalues must be finite and ascend"):
        linalg.spectral_function(r, name, (eigen[0][:, ::-1], eigen[1]))
