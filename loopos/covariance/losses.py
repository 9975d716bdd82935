"""Losses between Hermitian matrices S (what was estimated) and T (the truth), each with its gradient by S.

All are of stacks (B, N, N), give float64 (B,) and a Hermitian gradient (B, N, N), dL/dRe + j dL/dIm as PyTorch's, so
that the loss changes by Re tr(gradientᴴ dS). Sources: Stein divergence, Sra 2012; affine-invariant distance, Pennec et
al. 2006; the gradient of a projector in its divided-difference form, finite at equal eigenvalues on one side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from loopos import linalg

Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
LEAST_GAP = 1e-6  # between the eigenvalues that a subspace is cut at, of the largest


def frobenius(s: np.ndarray, t: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """||S - T||² of the Frobenius norm; gradient 2 (S - T)."""
    difference = s - t
    return _squared(difference), 2 * difference


def normalized_frobenius(s: np.ndarray, t: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """||S - T||² / ||T||²."""
    difference, scale = s - t, 1 / _squared(t)
    return _squared(difference) * scale, _times(2 * difference, scale)


def stein(s: np.ndarray, t: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log det((S + T) / 2) - (log det S + log det T) / 2, of positive definite matrices; at least 0. Gradient
    (((S + T) / 2)⁻¹ - S⁻¹) / 2."""
    middle = linalg.blend(s, t, 0.5)
    value = linalg.logdet(middle) - (linalg.logdet(s) + linalg.logdet(t)) / 2
    return value, (linalg.inverse(middle) - linalg.inverse(s)) / 2


def affine_invariant(s: np.ndarray, t: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """||log(T^-½ S T^-½)||², of positive definite matrices: the sum of the squared logarithms of the eigenvalues w of
    M = T^-½ S T^-½. Gradient T^-½ V diag(2 log w / w) Vᴴ T^-½, M = V diag(w) Vᴴ."""
    values, vectors = linalg.eigh(t)
    _refuse_indefinite(values, "truth")
    half = _spectral(vectors, 1 / np.sqrt(values))
    w, v = linalg.eigh(linalg.hermitize(half @ s @ half))
    _refuse_indefinite(w, "estimate")
    logs = np.log(w)
    return np.square(logs.astype(np.float64)).sum(axis=-1), linalg.hermitize(half @ _spectral(v, 2 * logs / w) @ half)


def subspace(s: np.ndarray, t: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """||P_S - P_T||² / 2 = K - tr(P_S P_T), P the projector on the eigenvectors of the K = sources[b] largest
    eigenvalues: the sum of the squared sines of the angles between the two subspaces.

    Gradient -V (D ∘ Vᴴ P_T V) Vᴴ with D_ij = 1 / |w_i - w_j| where one of i, j is above the cut and the other below,
    else 0: what happens inside a side, equal eigenvalues too, changes no projector. ValueError where the cut
    itself has no gap: then there is no subspace."""
    value, gradient = np.zeros(len(s)), np.zeros_like(s)
    w, v = linalg.eigh(s)
    _, u = linalg.eigh(t)
    n = s.shape[-1]
    for b, count in enumerate(sources):
        count, cut = int(count), n - int(count)
        if not 0 < count < n:
            continue  # nothing, or everything, is the subspace: no angle
        below, above = w[b, :cut], w[b, cut:]
        if above[0] - below[-1] <= LEAST_GAP * max(abs(w[b, 0]), abs(w[b, -1])):
            raise ValueError(
                f"subspace: eigenvalues {count} and {count + 1} of estimate {b} are both {above[0]:g} (gap "
                f"{above[0] - below[-1]:g}), so there is no subspace of {count} directions to be compared"
            )
        inside = v[b].conj().T @ u[b, :, cut:]  # (N, K)
        value[b] = count - float(np.square(np.abs(inside[cut:]), dtype=np.float64).sum())
        cross = (inside[cut:] @ inside[:cut].conj().T) / (above[:, None] - below[None, :])  # (K, N - K)
        half = v[b, :, cut:] @ cross @ v[b, :, :cut].conj().T
        gradient[b] = -(half + half.conj().T)
    return value, gradient


LOSSES: dict[str, Loss] = {
    "frobenius": frobenius,
    "normalized_frobenius": normalized_frobenius,
    "stein": stein,
    "affine_invariant": affine_invariant,
    "subspace": subspace,
}


def weighted(
    losses: Sequence[tuple[str, float]], s: np.ndarray, t: np.ndarray, sources: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The weighted sum of several (B,), its gradient (B, N, N), and each of them without its weight."""
    total, gradient, each = np.zeros(len(s)), np.zeros_like(s), {}
    for name, weight in losses:
        each[name], part = LOSSES[name](s, t, sources)
        total += weight * each[name]
        gradient += s.real.dtype.type(weight) * part
    return total, gradient, each


def _squared(r: np.ndarray) -> np.ndarray:
    """||R||², in double: 1e25 and its square fit."""
    return np.square(linalg.frobenius_norm(r).astype(np.float64))


def _times(r: np.ndarray, factors: np.ndarray) -> np.ndarray:
    return r * factors.astype(r.real.dtype)[:, None, None]


def _spectral(v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """V diag(w) Vᴴ."""
    return (v * w[:, None, :]) @ v.conj().swapaxes(-1, -2)


def _refuse_indefinite(values: np.ndarray, which: str) -> None:
    if (bad := np.flatnonzero(values[:, 0] <= 0)).size:
        raise ValueError(
            f"affine_invariant: {which} {bad[0]} is not positive definite: its smallest eigenvalue is "
            f"{values[bad[0], 0]:g}; the distance has logarithms of them"
        )
