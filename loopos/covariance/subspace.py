"""What estimators of direction share: the signal subspace, and direction cosines."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .arrays import ULA, URA
from .sample import covariance_of


def signal_subspace(where: str, covariance: Any, array: ULA | URA, sources: int) -> np.ndarray:
    """complex128 (N, K): the eigenvectors of the K largest eigenvalues of one ``covariance`` (N, N). As many sources as
    sensors, or an array that is neither a ULA nor a URA: an error."""
    if not isinstance(array, ULA | URA):
        raise TypeError(f"{where}: array must be a ULA or a URA, got {checks.shown(array)}")
    checked = covariance_of(where, covariance, array)
    if checked.ndim != 2:
        raise ValueError(f"{where}: one covariance (N, N) at a time, got {checked.shape}")
    count = checks.integer(where, "sources", sources, low=1, high=array.sensors - 1)
    _, vectors = np.linalg.eigh(checked)
    return vectors[:, ::-1][:, :count].astype(np.complex128)


def residual(signal: np.ndarray, steering: np.ndarray) -> np.ndarray:
    """(N, M): what of the columns of ``steering`` (N, M) the noise subspace holds, (I - E_s E_sᴴ) a. Subtracted once
    from a vector, so that its square is right to 1e-30 where a lies in the signal subspace."""
    return steering - signal @ (signal.conj().T @ steering)


def waves(array: ULA | URA, cosines: np.ndarray) -> np.ndarray:
    """complex128 (N, M): steering vectors of the ideal array at direction cosines (M, D): u = sin t of a line; u = cos
    el sin az and v = sin el of a plane. They may lie outside of what is visible."""
    axes = [1] if isinstance(array, ULA) else [1, 2]
    return np.exp(2j * np.pi * (array.positions[:, axes] @ cosines.T))


def wave_slopes(array: ULA | URA, at: np.ndarray) -> np.ndarray:
    """complex128 (N, M, D): the derivatives of ``at``, :func:`waves` (N, M), by the direction cosines."""
    axes = [1] if isinstance(array, ULA) else [1, 2]
    return 2j * np.pi * array.positions[:, None, axes] * at[:, :, None]


def cosines(array: ULA | URA, directions: Any) -> np.ndarray:
    """Direction cosines (K, D) of ``directions``, (K,) of a line and (K, 2) of a plane."""
    unit = array.unit_vectors(directions)
    return unit[..., 1:2] if isinstance(array, ULA) else unit[..., 1:]


def directions_of(array: ULA | URA, found: np.ndarray) -> np.ndarray:
    """Directions, sorted, of direction cosines (K, D): (K,) of a line, (K, 2) of a plane. What lies beyond the visible
    region comes to its edge."""
    if isinstance(array, ULA):
        return np.sort(np.arcsin(np.clip(found[:, 0], -1, 1)))
    length = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)
    across, up = (found / length).T
    flat = np.sqrt(np.maximum(1 - up**2, 0))
    azimuth = np.arcsin(np.clip(across / np.maximum(flat, 1e-300), -1, 1))
    pairs = np.stack([azimuth, np.arcsin(np.clip(up, -1, 1))], -1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
