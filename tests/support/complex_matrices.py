"""Random complex matrices and central differences by them, for the tests of loopos.linalg."""

from __future__ import annotations

import numpy as np

DTYPES = (np.complex64, np.complex128)
SHAPES = [(1, 1), (3, 2, 5), (2, 16), (2, 17), (1, 33), (2, 50)]  # (..., N): below, at and above a block of 16


def adjoint(x):
    return np.swapaxes(x, -1, -2).conj()


def hermitian_part(x):
    return (x + adjoint(x)) / 2


def complex_normal(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def hermitian(rng, *shape):
    """(..., N, N) for shape (..., N), eigenvalues of both signs."""
    return hermitian_part(complex_normal(rng, *shape, shape[-1]))


def positive(rng, *shape):
    """(..., N, N) for shape (..., N), positive definite with a condition number of some tens."""
    a = complex_normal(rng, *shape, 2 * shape[-1] + 3)
    return a @ adjoint(a) / a.shape[-1]


def with_eigenvalues(w, seed=0):
    u = np.linalg.qr(complex_normal(np.random.default_rng(seed), len(w), len(w)))[0]
    return hermitian_part((u * np.asarray(w)) @ adjoint(u))


def relative(got, want):
    return float(np.linalg.norm(np.asarray(got) - want) / max(np.linalg.norm(want), 1e-300))


def real_gradient(f, x, hermitian=False, h=1e-6):
    """PyTorch's gradient of the real function f at x by central differences; of Hermitian matrices x, the Hermitian one
    (every direction is Hermitian then)."""
    gradient = np.zeros(x.shape, np.complex128)
    for at in np.ndindex(x.shape):
        for part in (1, 1j):
            direction = np.zeros(x.shape, np.complex128)
            direction[at] += part
            if hermitian:
                direction = hermitian_part(direction)
            slope = (f(x + h * direction) - f(x - h * direction)) / (2 * h)
            gradient[at] += part * slope
    return gradient
