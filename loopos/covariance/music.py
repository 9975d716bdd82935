"""MUSIC: directions whose steering vectors are nearest to the signal subspace, by a grid that is refined."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .arrays import ULA, URA
from .sample import covariance_of
from .subspace import cosines, directions_of, residual, signal_subspace, wave_slopes, waves

FINE = 64  # grid points a beamwidth of a line: minima of near sources stay apart; a quarter along sides of a plane
STEPS = 60


def music(covariance: Any, array: ULA | URA, sources: int) -> np.ndarray:
    """The K directions at the deepest minima of the null spectrum ||(I - E_s E_sᴴ) a||^2, sorted: (K,) of a line,
    (K, 2) of a plane, radians.

    A grid over the direction cosines finds minima, Gauss-Newton steps in them refine the deepest 2 K, and the K deepest
    of these stay: no error of a grid is left. Where there are fewer minima than sources, which happens below the
    threshold, the rest are the deepest points of the grid that lie half a beamwidth from those that were found. A
    covariance that is not (N, N), Hermitian and finite, or K >= N: ValueError. Source: Schmidt 1986."""
    signal = signal_subspace("music", covariance, array, sources)
    grid, null = _null_spectrum(array, signal)
    lowest = _minima(null)
    starts = lowest[np.argsort(null.ravel()[lowest], kind="stable")][: 2 * sources]
    flat = grid.reshape(-1, grid.shape[-1])
    found, depth = _refine(array, signal, flat[starts], _step(array))
    chosen: list[np.ndarray] = []
    for place in np.argsort(depth, kind="stable"):
        if len(chosen) < sources and all(np.abs(found[place] - other).max() > 1e-9 for other in chosen):
            chosen.append(found[place])
    apart = 0.5 / _sides(array)
    for place in () if len(chosen) == sources else np.argsort(null.ravel(), kind="stable"):
        if len(chosen) < sources and all((np.abs(flat[place] - other) > apart).any() for other in chosen):
            chosen.append(flat[place])
    return directions_of(array, np.array(chosen))


def music_spectrum(covariance: Any, array: ULA | URA, sources: int, directions: Any) -> np.ndarray:
    """The MUSIC spectrum N / ||(I - E_s E_sᴴ) a||^2 at ``directions``, (M,) of a line and (M, 2) of a plane: float64
    (M,), at least 1. Only the places of its peaks mean something, their heights do not."""
    signal = signal_subspace("music_spectrum", covariance, array, sources)
    at = waves(array, cosines(array, array.directions(directions, "music_spectrum")))
    power = np.square(np.abs(residual(signal, at))).sum(0)
    return array.sensors / np.maximum(power, 1e-30 * array.sensors)


def beam_spectrum(covariance: Any, array: ULA | URA, directions: Any) -> np.ndarray:
    """The power aᴴ R a / N^2 that a beam to each of ``directions`` receives (Bartlett): float64 (M,)."""
    if not isinstance(array, ULA | URA):
        raise TypeError(f"beam_spectrum: array must be a ULA or a URA, got {checks.shown(array)}")
    checked = covariance_of("beam_spectrum", covariance, array)
    at = waves(array, cosines(array, array.directions(directions, "beam_spectrum")))
    return np.einsum("nm,nm->m", at.conj(), checked @ at).real / array.sensors**2


def _sides(array: ULA | URA) -> np.ndarray:
    """Aperture in wavelengths along each direction cosine: the inverse of the beamwidth there."""
    counts = [array.sensors] if isinstance(array, ULA) else [array.columns, array.rows]
    return np.array(counts) * abs(array.spacing)


def _step(array: ULA | URA) -> np.ndarray:
    return 1 / (_sides(array) * (FINE if isinstance(array, ULA) else FINE // 4))


def _null_spectrum(array: ULA | URA, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction cosines (G, 1) or (G, H, 2) and there N - ||E_sᴴ a||^2 (infinite outside of what is visible)."""
    axes = [np.linspace(-1, 1, 2 * int(np.ceil(1 / step)) + 1) for step in _step(array)]
    if isinstance(array, ULA):
        grid = axes[0][:, None]
        return grid, array.sensors - np.square(np.abs(signal.conj().T @ waves(array, grid))).sum(0)
    # a = (up the rows) x (across the columns): one side after the other
    across, up = axes
    columns = np.exp(2j * np.pi * array.spacing * np.outer(np.arange(array.columns), across))
    rows = np.exp(2j * np.pi * array.spacing * np.outer(np.arange(array.rows), up))
    power = np.zeros((len(across), len(up)))
    for vector in signal.conj().T:
        power += np.square(np.abs((vector.reshape(array.rows, array.columns) @ columns).T @ rows))
    grid = np.stack(np.meshgrid(across, up, indexing="ij"), -1)
    return grid, np.where((grid**2).sum(-1) <= 1 + 1e-12, array.sensors - power, np.inf)


def _minima(null: np.ndarray) -> np.ndarray:
    """Indices, flat, of the points of a grid that no neighbour lies below (at the edges too)."""
    padded = np.pad(null, 1, constant_values=np.inf)
    lowest = np.isfinite(null)
    for shift in np.ndindex(*[3] * null.ndim):
        if any(step != 1 for step in shift):
            lowest &= null <= padded[tuple(slice(s, s + n) for s, n in zip(shift, null.shape, strict=True))]
    return np.flatnonzero(lowest)


def _refine(
    array: ULA | URA, signal: np.ndarray, starts: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Direction cosines (M, D) and null spectrum (M,) at the minima near ``starts``. Each step solves (dᴴ Q d) move =
    -dᴴ Q a, Q the noise projector, is kept within a cell of the grid and the visible region, and taken where it goes
    down; where it does not, the next one is a quarter as long."""
    here, short = starts.copy(), np.ones(len(starts))
    at = waves(array, here)
    away = residual(signal, at)
    depth = np.square(np.abs(away)).sum(0)
    for _ in range(STEPS):
        slopes = wave_slopes(array, at)
        left = slopes - np.einsum("nk,kmd->nmd", signal, np.einsum("nk,nmd->kmd", signal.conj(), slopes))
        curve = np.einsum("nmd,nme->mde", left.conj(), left).real
        curve += 1e-12 * np.trace(curve, axis1=1, axis2=2)[:, None, None] * np.eye(curve.shape[-1])
        pull = np.einsum("nmd,nm->md", left.conj(), away).real
        move = -np.linalg.solve(curve, pull[..., None])[..., 0]
        move = np.clip(move, -step, step) * short[:, None]
        there = here + move
        there /= np.maximum(np.linalg.norm(there, axis=1, keepdims=True), 1)
        new = waves(array, there)
        left_over = residual(signal, new)
        depth_there = np.square(np.abs(left_over)).sum(0)
        better = depth_there < depth
        here[better], depth[better] = there[better], depth_there[better]
        at[:, better], away[:, better] = new[:, better], left_over[:, better]
        short = np.where(better, np.minimum(short * 2, 1), short / 4)
        if np.abs(move).max() < 1e-13:
            break
    return here, depth
