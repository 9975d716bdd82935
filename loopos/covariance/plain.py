"""numpy's form of the Hermitian algebra that the pipeline needs; (..., N, N), gradients in PyTorch's convention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class AmplificationError(ValueError):
    """A trace was so small that a matrix would be multiplied by more than is allowed."""


@dataclass(frozen=True, eq=False)
class TraceInfo:
    trace: np.ndarray
    factor: np.ndarray
    floored: np.ndarray
    floor: float

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.floored))


def adjoint(r):
    return np.conj(np.swapaxes(r, -1, -2))


def hermitize(r):
    return (r + adjoint(r)) * r.real.dtype.type(0.5)


def trace(r):
    return np.trace(r, axis1=-2, axis2=-1).real.astype(np.float64)


def sample_covariance(snapshots, center=False):
    x = snapshots - snapshots.mean(axis=-2, keepdims=True) if center else snapshots
    return np.swapaxes(x, -1, -2) @ x.conj() / x.real.dtype.type(x.shape[-2])


def sample_covariance_backward(dr, snapshots, center=False):
    x = snapshots - snapshots.mean(axis=-2, keepdims=True) if center else snapshots
    dx = x @ np.swapaxes(dr + adjoint(dr), -1, -2) / x.real.dtype.type(x.shape[-2])
    return dx - dx.mean(axis=-2, keepdims=True) if center else dx


def trace_normalize(r, target=None, floor=1e-9, max_amplification=1e9):
    traces = trace(r)
    factor = (r.shape[-1] if target is None else target) / np.maximum(traces, floor)
    y = r * factor.astype(r.real.dtype)[..., None, None]
    if (over := np.argwhere(factor > max_amplification)).size:
        at = tuple(int(i) for i in over[0])
        raise AmplificationError(
            f"trace_normalize: batch entry {at}: trace {traces[at]:g}, floor {floor:g}, factor {factor[at]:g}"
        )
    return y, TraceInfo(traces, factor, traces < floor, floor)


def trace_normalize_backward(dy, r, target=None, floor=1e-9, max_amplification=1e9):
    traces = trace(r)
    factor = (r.shape[-1] if target is None else target) / np.maximum(traces, floor)
    along = np.where(traces < floor, 0.0, (dy.conj() * r).sum(axis=(-2, -1)).real / np.where(traces == 0, 1, traces))
    eye = np.eye(r.shape[-1], dtype=r.dtype)
    return (dy - along.astype(r.real.dtype)[..., None, None] * eye) * factor.astype(r.real.dtype)[..., None, None]


def blend(a, b, beta):
    return a * a.real.dtype.type(1 - beta) + b * a.real.dtype.type(beta)


def blend_backward(dy, a, b, beta):
    real = a.real.dtype.type
    return dy * real(1 - beta), dy * real(beta), float(np.sum((dy.conj() * (b - a)).real, dtype=np.float64))


def load_diagonal(r, amount):
    return r + r.real.dtype.type(amount) * np.eye(r.shape[-1], dtype=r.dtype)


def logdet(r):
    diagonal = np.diagonal(np.linalg.cholesky(r), axis1=-2, axis2=-1).real
    return 2 * np.log(diagonal.astype(np.float64)).sum(axis=-1)


def inverse(r):
    return hermitize(np.linalg.inv(r))


def eigh(r):
    return np.linalg.eigh(r)


def frobenius_norm(r):
    parts = np.ascontiguousarray(r).reshape(*r.shape[:-2], -1).view(r.real.dtype)
    return np.sqrt(np.einsum("...i,...i->...", parts, parts))
