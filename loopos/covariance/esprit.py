"""ESPRIT: directions from the shift between two subarrays, without a search; one shift for a line, two for a plane."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .arrays import ULA, URA
from .subspace import directions_of, signal_subspace

SOLVERS = ("tls", "ls")


def esprit(
    covariance: Any,
    array: ULA | URA,
    sources: int,
    *,
    solver: str = "tls",
    displacement: int | tuple[int, int] | None = None,
) -> np.ndarray:
    """The K directions of one ``covariance`` (N, N), sorted: (K,) of a line, (K, 2) of a plane, radians.

    Two subarrays a shift apart see E_2 = E_1 Psi, and the eigenvalues of Psi are exp(2 pi j shift cosine). On a plane
    Psi of both axes have the same eigenvectors, those of a combination of the two, so that pairs come out by
    themselves (Vanpoucke, Moonen, Berthoumieu 1994). Psi is solved for by total least squares, or least squares.

    displacement  the shift in sensors, of a plane (along rows' index, along columns'). 1 is the textbook: of a lone
                  source its variance is N (N + 1) / (6 (N - 1)) times the bound. **None: a third of the sensors**,
                  where it is 9/8 of it; the shift of 1 then says which of the displacement's answers is meant.

    So many sources that a subarray has not as many sensors: ValueError. Source: Roy, Kailath 1989; the long shift as
    in Wong, Zoltowski 1998."""
    signal = signal_subspace("esprit", covariance, array, sources)
    checks.choice("esprit", "solver", solver, SOLVERS)
    sides = (array.sensors,) if isinstance(array, ULA) else (array.rows, array.columns)
    shifts = _shifts(sides, displacement)
    if sources > (fits := min(array.sensors // side * (side - 1) for side in sides)):
        raise ValueError(f"esprit: sources must be at most {fits}, the sensors of a subarray, got {sources}")
    near = [_psi(signal, sides, axis, 1, solver) for axis in range(len(sides))]
    vectors = _common_eigenvectors(near)
    found = []
    for axis, shift in enumerate(shifts):
        cosine = np.angle(_diagonal(vectors, near[axis])) / (2 * np.pi * array.spacing)
        if shift > 1 and array.sensors // sides[axis] * (sides[axis] - shift) >= sources:
            far = np.angle(_diagonal(vectors, _psi(signal, sides, axis, shift, solver)))
            turns = np.round(shift * array.spacing * cosine - far / (2 * np.pi))
            cosine = (far / (2 * np.pi) + turns) / (shift * array.spacing)
        found.append(cosine)
    return directions_of(array, np.stack(found[::-1], -1))  # a plane's last axis is y, the first cosine


def _shifts(sides: tuple[int, ...], displacement: Any) -> tuple[int, ...]:
    if displacement is None:
        return tuple(max(1, round(side / 3)) for side in sides)
    wanted = (displacement,) * len(sides) if not isinstance(displacement, tuple) else displacement
    if len(wanted) != len(sides):
        raise ValueError(f"esprit: displacement must be {len(sides)} numbers, got {checks.shown(displacement)}")
    return tuple(
        checks.integer("esprit", "displacement", part, low=1, high=side - 1)
        for part, side in zip(wanted, sides, strict=True)
    )


def _psi(signal: np.ndarray, sides: tuple[int, ...], axis: int, shift: int, solver: str) -> np.ndarray:
    """(K, K): the least-squares solution of E_1 Psi = E_2, E_1 the sensors that have one ``shift`` further along."""
    sources = signal.shape[1]
    shaped = np.moveaxis(signal.reshape(*sides, sources), axis, 0)
    first = shaped[:-shift].reshape(-1, sources)
    second = shaped[shift:].reshape(-1, sources)
    if solver == "ls":
        return np.linalg.lstsq(first, second, rcond=None)[0]
    both = np.concatenate([first, second], 1)
    right = np.linalg.eigh(both.conj().T @ both)[1][:, :sources]  # of the smallest: what the two do not share
    return -np.linalg.solve(right[sources:].T, right[:sources].T).T


def _common_eigenvectors(matrices: list[np.ndarray]) -> np.ndarray:
    """(K, K): eigenvectors of the combination, of a few fixed ones, whose eigenvalues are furthest apart."""
    if len(matrices) == 1:
        return np.linalg.eig(matrices[0])[1]
    best, gap = None, -1.0
    for weight in (1.0, -1.0, 1j, 0.5, -0.5j):
        values, vectors = np.linalg.eig(matrices[0] + weight * matrices[1])
        apart = np.abs(values[:, None] - values[None]) + 1e9 * np.eye(len(values))
        if apart.min() > gap:
            best, gap = vectors, float(apart.min())
    assert best is not None
    return best


def _diagonal(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(K,): the diagonal of vectors^-1 matrix vectors. Errors of the vectors enter it in second order only."""
    return np.diagonal(np.linalg.solve(vectors, matrix @ vectors))
