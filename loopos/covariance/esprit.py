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
                  source on a line its variance is N (N + 1) / (6 (N - 1)) times the bound, 1.5 at 8 sensors and 2.4
                  at 12; at a third of the sensors it is 9/8. The shift of 1 says which answer of a longer one is meant.
                  **None: all shifts s**, their answers weighted by (s q^2)^2, q the smallest singular value of the
                  signal subspace in the subarray (of a lone source q^2 is its share of the sensors): a subarray that
                  cannot tell the sources apart says little. Comes within some hundredths of the bound.

    So many sources that a subarray has not as many sensors: ValueError. Source: Roy, Kailath 1989; long shifts as in
    Wong, Zoltowski 1998."""
    signal = signal_subspace("esprit", covariance, array, sources)
    checks.choice("esprit", "solver", solver, SOLVERS)
    sides = (array.sensors,) if isinstance(array, ULA) else (array.rows, array.columns)
    chosen = _shifts(sides, displacement)
    if sources > (fits := min(array.sensors // side * (side - 1) for side in sides)):
        raise ValueError(f"esprit: sources must be at most {fits}, the sensors of a subarray, got {sources}")
    near = [_psi(signal, sides, axis, 1, solver) for axis in range(len(sides))]
    vectors = _common_eigenvectors(near)
    found = []
    for axis, shifts in enumerate(chosen):
        cosine = np.angle(_diagonal(vectors, near[axis])) / (2 * np.pi * array.spacing)
        total, weights = np.zeros(sources), 0.0
        for shift in shifts:
            first = _parts(signal, sides, axis, shift)[0]
            tells = np.linalg.svd(first, compute_uv=False)[-1] if len(first) >= sources else 0.0
            if tells < 1e-3:
                continue
            far = np.angle(_diagonal(vectors, _psi(signal, sides, axis, shift, solver))) / (2 * np.pi)
            turns = np.round(shift * array.spacing * cosine - far)
            weight = float(shift * tells**2) ** 2
            total, weights = total + weight * (far + turns) / (shift * array.spacing), weights + weight
            cosine = total / weights
        found.append(cosine)
    return directions_of(array, np.stack(found[::-1], -1))  # a plane's last axis is y, the first cosine


def _shifts(sides: tuple[int, ...], displacement: Any) -> list[range]:
    """The shifts along each axis."""
    if displacement is None:
        return [range(1, side) for side in sides]
    wanted = (displacement,) * len(sides) if not isinstance(displacement, tuple) else displacement
    if len(wanted) != len(sides):
        raise ValueError(f"esprit: displacement must be {len(sides)} numbers, got {checks.shown(displacement)}")
    checked = [
        checks.integer("esprit", "displacement", part, low=1, high=side - 1)
        for part, side in zip(wanted, sides, strict=True)
    ]
    return [range(part, part + 1) for part in checked]


def _psi(signal: np.ndarray, sides: tuple[int, ...], axis: int, shift: int, solver: str) -> np.ndarray:
    """(K, K): the least-squares solution of E_1 Psi = E_2, E_1 the sensors that have one ``shift`` further along."""
    sources, (first, second) = signal.shape[1], _parts(signal, sides, axis, shift)
    if solver == "ls":
        return np.linalg.lstsq(first, second, rcond=None)[0]
    both = np.concatenate([first, second], 1)
    right = np.linalg.eigh(both.conj().T @ both)[1][:, :sources]  # of the smallest: what the two do not share
    return -np.linalg.solve(right[sources:].T, right[:sources].T).T


def _parts(signal: np.ndarray, sides: tuple[int, ...], axis: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    shaped = np.moveaxis(signal.reshape(*sides, signal.shape[1]), axis, 0)
    return shaped[:-shift].reshape(-1, signal.shape[1]), shaped[shift:].reshape(-1, signal.shape[1])


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
