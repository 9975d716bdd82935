"""Complex Hermitian algebra, forward and backward: covariance matrices and what is computed with them.

Like :mod:`loopos.ops`: functions are stateless, allocate their results and never change an input; all arrays of one
call share one dtype, complex64 or complex128 (real numbers float32 or float64), and nothing is cast; results have the
same bits for any number of threads. Matrices are (..., N, N), the axes before them a batch of any shape, an empty one
too; a refused matrix is named by its place in the batch.

Gradients follow PyTorch's convention: of a real loss by a complex number, the derivative by its real part plus i times
that by its imaginary part, so that the loss changes by ``sum(dr.conj() * change).real``. ``X_backward`` takes the
gradients of X's results, then the arguments of X, and gives gradients in their order.

cholesky, solve, logdet, inverse, eigh, spectral_function and projector are of Hermitian matrices: they read the lower
triangle and the real part of the diagonal and refuse (ValueError) a matrix that is not Hermitian to about 1e-4
(complex128: 1e-10) of its largest number; their gradients by it are Hermitian. They refuse NaN and inf too, which
elsewhere go through as computed unless the function says otherwise. Each matrix is brought near 1 by a power of 2
inside, so 1e-38 and 1e38 are as good as 1.

Formulas: ``cpp/linalg``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loopos._core import linalg as _core
from loopos._core.linalg import (
    blend,
    blend_backward,
    cholesky,
    cholesky_backward,
    eigh,
    eigh_backward,
    frobenius_norm,
    frobenius_norm_backward,
    hermitize,
    hermitize_backward,
    inverse,
    inverse_backward,
    load_diagonal,
    load_diagonal_backward,
    logdet,
    logdet_backward,
    projector,
    projector_backward,
    sample_covariance,
    sample_covariance_backward,
    solve,
    solve_backward,
    spectral_function,
    spectral_function_backward,
    trace,
    trace_backward,
    trace_normalize_backward,
)

__all__ = [
    "TraceInfo",
    "blend",
    "blend_backward",
    "cholesky",
    "cholesky_backward",
    "eigh",
    "eigh_backward",
    "frobenius_norm",
    "frobenius_norm_backward",
    "hermitize",
    "hermitize_backward",
    "inverse",
    "inverse_backward",
    "load_diagonal",
    "load_diagonal_backward",
    "logdet",
    "logdet_backward",
    "projector",
    "projector_backward",
    "sample_covariance",
    "sample_covariance_backward",
    "solve",
    "solve_backward",
    "spectral_function",
    "spectral_function_backward",
    "trace",
    "trace_backward",
    "trace_normalize",
    "trace_normalize_backward",
]


@dataclass(frozen=True, eq=False)
class TraceInfo:
    """What :func:`trace_normalize` did, an array with one entry a matrix each.

    trace: the real part of the trace, before (float64). factor: what the matrix was multiplied by (float64).
    floored: whether the trace was below the floor, which then decided the factor. floor: it."""

    trace: np.ndarray
    factor: np.ndarray
    floored: np.ndarray
    floor: float

    @property
    def count(self) -> int:
        """How many matrices the floor decided."""
        return int(np.count_nonzero(self.floored))

    def __str__(self) -> str:
        factors = f"factors {self.factor.min():g} to {self.factor.max():g}" if self.factor.size else "no matrix"
        if not self.count:
            return f"{factors}, no trace below the floor {self.floor:g}"
        first = tuple(int(i) for i in np.argwhere(self.floored)[0])
        return (
            f"{factors}; {self.count} of {self.floored.size} traces below the floor {self.floor:g}, the first in batch "
            f"entry {first}: trace {self.trace[first]:g}, factor {self.factor[first]:g}"
        )


def trace_normalize(
    r: np.ndarray, target: float | None = None, floor: float = 1e-9, max_amplification: float = 1e10
) -> tuple[np.ndarray, TraceInfo]:
    """Matrices scaled to a trace: ``target / max(trace, floor)`` times r.

    r: (..., N, N), N >= 1, finite (else ValueError); target: above 0, None: N. Returns (y, info), y of r's shape. A
    floor that decides is in ``info`` and counted (``loopos.guard_counts()["trace_normalize_floor"]``): the trace of y
    is then not the target. A factor above max_amplification raises loopos.errors.AmplificationError, which names batch,
    trace, floor and factor; math.inf allows any. By default that is so where the floor decides for N above 10.
    """
    y, traces, factors, floored = _core.trace_normalize(r, target, floor, max_amplification)
    return y, TraceInfo(traces, factors, floored, float(floor))
