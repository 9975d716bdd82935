"""Errors of estimated directions, matched with the true ones by the best permutation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from loopos import checks

MOST = 16  # sources: the search of the best permutation doubles with each


def best_permutation(cost: np.ndarray) -> np.ndarray:
    """int64 (K,): the permutation p with the least sum of cost[k, p[k]], ``cost`` (K, K); exact, over subsets (Held,
    Karp 1962). More than 16: ValueError."""
    matrix = np.asarray(cost, np.float64)
    count = len(matrix)
    if matrix.shape != (count, count) or not 1 <= count <= MOST:
        raise ValueError(f"best_permutation: cost must be (K, K) with K from 1 to {MOST}, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("best_permutation: cost must be finite")
    rows = matrix.tolist()
    best = {0: (0.0, ())}  # what the first rows take, as bits: (its least cost, how)
    for row in rows:
        after: dict[int, tuple[float, tuple]] = {}
        for taken, (total, how) in best.items():
            for column, price in enumerate(row):
                bit = 1 << column
                if not taken & bit and (taken | bit not in after or total + price < after[taken | bit][0]):
                    after[taken | bit] = (total + price, (*how, column))
        best = after
    return np.array(best[2**count - 1][1], np.int64)


def direction_errors(estimated: Any, true: Any, *, periodic: bool = False) -> np.ndarray:
    """The error of each true direction, radians: float64 (K,), in the order of ``true``; estimates are matched so that
    the sum of squares is least.

    Of a line, (K,) and (K,): the difference estimated - true; with ``periodic`` brought to -pi/2 .. pi/2, as a line's
    angles are in SubspaceNet's metric. Of a plane, (K, 2) and (K, 2), azimuth and elevation: **the angle between the
    two directions**, at least 0, which depends on no choice of axes. Unequal shapes, or not finite: ValueError."""
    where = "direction_errors"
    found, wanted = np.asarray(estimated, np.float64), np.asarray(true, np.float64)
    if found.shape != wanted.shape or wanted.ndim not in (1, 2) or (wanted.ndim == 2 and wanted.shape[1] != 2):
        raise ValueError(
            f"{where}: estimated and true must both be (K,) or both (K, 2), got {found.shape} and {wanted.shape}"
        )
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        raise ValueError(f"{where}: directions must be finite")
    if not len(wanted):
        return np.zeros(0)
    if wanted.ndim == 2:
        table = _between(wanted[:, None], found[None])
    else:
        table = found[None] - wanted[:, None]
        if periodic:
            table = (table + math.pi / 2) % math.pi - math.pi / 2
    return table[np.arange(len(wanted)), best_permutation(np.square(table))]


def rmspe(estimated: Any, true: Any) -> float:
    """SubspaceNet's metric of one sample of a line, radians: the root of the mean squared error, each error brought to
    -pi/2 .. pi/2, of the best permutation. Their tables average it over samples. Source: Routtenberg,
    Tabrikian 2013."""
    if np.ndim(true) != 1:
        raise ValueError(f"rmspe: directions must be (K,), of a line, got the shape {np.shape(true)}")
    return root_mean_square(direction_errors(estimated, true, periodic=True))


def root_mean_square(errors: Any) -> float:
    """sqrt(mean e^2) of all ``errors``, any shape. None at all: ValueError."""
    numbers = np.asarray(checks.unmasked("root_mean_square", "errors", errors), np.float64)
    if not numbers.size:
        raise ValueError("root_mean_square: errors must not be empty")
    return float(np.sqrt(np.mean(np.square(numbers))))


def _between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The angle between directions (..., 2), right for small ones: by the haversine."""
    half = np.sin((second - first) / 2) ** 2
    chord = half[..., 1] + np.cos(first[..., 1]) * np.cos(second[..., 1]) * half[..., 0]
    return 2 * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))
