"""Prints, as JSON, how far complex64 is from complex128 for each operation of loopos.linalg over scales 2^0 to 2^9, on
the instruction set that LOOPOS_ISA names."""

from __future__ import annotations

import json

import numpy as np

import loopos
from loopos import linalg

rng = np.random.default_rng(0)


def normal(*shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def relative(got, want):
    got, want = (np.concatenate([np.ravel(x) for x in (y if isinstance(y, tuple) else (y,))]) for y in (got, want))
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


N = 37
snapshots, dr, b = normal(2, 60, N), normal(2, N, N), normal(2, N, 5)
dr = ((dr + dr.conj().swapaxes(1, 2)) / 2).astype(np.complex64)
base = linalg.sample_covariance(normal(2, 3 * N, N))
OPERATIONS = {
    "sample_covariance": lambda r, a, d, b: linalg.sample_covariance(a, True),
    "sample_covariance_backward": lambda r, a, d, b: linalg.sample_covariance_backward(d, a, True),
    "hermitize": lambda r, a, d, b: linalg.hermitize(d),
    "blend": lambda r, a, d, b: linalg.blend_backward(d, r, d, 0.3)[:2],
    "frobenius_norm": lambda r, a, d, b: linalg.frobenius_norm(r),
    "trace_normalize_backward": lambda r, a, d, b: linalg.trace_normalize_backward(d, r),
    "cholesky": lambda r, a, d, b: linalg.cholesky(r),
    "cholesky_backward": lambda r, a, d, b: linalg.cholesky_backward(d, r),
    "logdet": lambda r, a, d, b: linalg.logdet(r),
    "logdet_backward": lambda r, a, d, b: linalg.logdet_backward(np.ones(2, r.real.dtype), r),
    "inverse_backward": lambda r, a, d, b: linalg.inverse_backward(d, r),
    "solve": lambda r, a, d, b: linalg.solve(r, b),
    "solve_backward": lambda r, a, d, b: linalg.solve_backward(b, r, b),
    "eigenvalues": lambda r, a, d, b: linalg.eigh(r)[0],
    "spectral_function": lambda r, a, d, b: linalg.spectral_function(r, "sqrt"),
    "spectral_function_backward": lambda r, a, d, b: linalg.spectral_function_backward(d, r, "log"),
}
figures = {}
for name, operation in OPERATIONS.items():
    errors = []
    for exponent in range(10):
        single = (base * np.float32(2.0**exponent), snapshots, dr, b)
        errors.append(relative(operation(*single), operation(*(x.astype(np.complex128) for x in single))))
    figures[name] = max(errors)
print(json.dumps({"isa": loopos._core.isa(), "figures": figures}))
