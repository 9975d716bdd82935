"""Derivatives by differences: what a hand-written gradient is measured against. Nothing here is used in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EPS = float(np.finfo(np.float64).eps)


def difference(up, down, step: float, weight) -> tuple[float, float]:
    """The difference quotient of the weighted sum ``sum(weight * y)`` and its rounding error.

    up, down: y at the two ends, same shape as weight; step: their distance. Entries that did not change are left out,
    so that neither their rounding nor a constant infinity spoils the sum; the others are trusted to two roundings.
    """
    changed = up != down
    up, down, weight = up[changed], down[changed], weight[changed]
    slope = float(np.sum(weight * (up - down))) / step
    noise = 2 * EPS * float(np.sum(np.abs(weight) * np.maximum(np.abs(up), np.abs(down)))) / abs(step)
    return slope, noise


def ridders(
    central: Callable[[float], tuple[float, float]], h: float, levels: int = 7, enough: float = 0.0
) -> tuple[float, float]:
    """The derivative extrapolated from central differences with steps h, h/4, h/16, ..., and an estimate of its error.

    central(h) gives the central difference for one step and its rounding error. The estimate is the smallest spread
    seen in the extrapolation table (C. Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in
    Engineering Software 4, 1982, p. 75), so a step that crosses a kink or leaves the domain is passed over. Stops early
    at a relative error ``enough``.
    """
    best, error = np.nan, np.inf
    above: list[float] = []
    for _ in range(levels):
        slope, noise = central(h)
        row = [slope]
        for order, previous in enumerate(above, start=1):
            gain = 16.0**order
            row.append((gain * row[-1] - previous) / (gain - 1))
            spread = max(abs(row[-1] - row[-2]), abs(row[-1] - previous), noise)
            if spread < error:  # false for NaN: such a level is never chosen
                best, error = row[-1], spread
        if error <= enough * abs(best):
            break
        above = row
        h /= 4
    return best, error


def relative(a, n, floor, whole: bool = True) -> tuple[float, int]:
    """The larger of the worst element's relative error beyond ``floor`` and the whole's relative to its norm; where."""
    gap, size = np.abs(a - n), np.maximum(np.abs(a), np.abs(n))
    excess = np.where(gap > floor, gap - floor, 0) / np.where(size > 0, size, 1)
    excess = np.where(np.isnan(gap), np.inf, excess)
    worst = int(np.argmax(excess if excess.any() else gap))
    norm = max(float(np.linalg.norm(a)), float(np.linalg.norm(n)))
    overall = float(np.linalg.norm(gap)) / norm if whole and norm > 0 else 0.0
    return max(float(excess[worst]), overall), worst
