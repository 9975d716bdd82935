"""How far a measured number may be from the true one: intervals of 95 %."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054  # the 97.5 % point of the normal distribution
RESAMPLES = 10_000

WILSON = "Wilson, 95 %"
PAIRED = "Bonett-Price, paired, 95 %"
BOOTSTRAP = f"bootstrap over windows, paired, {RESAMPLES:,} resamples, 95 %"


class Interval(NamedTuple):
    low: float
    high: float


def wilson(right: int, count: int) -> Interval:
    """Of a proportion of ``right`` out of ``count``: Wilson (1927), which stays within 0..1 and does not shrink to a
    point where all or none are right. No example: nothing is known, 0..1."""
    if count == 0:
        return Interval(0.0, 1.0)
    share, weight = right / count, Z * Z / count
    middle = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    low, high = middle - half, middle + half
    return Interval(0.0 if right == 0 else low, 1.0 if right == count else high)  # exact there but for rounding


def paired_proportions(before: np.ndarray, after: np.ndarray) -> Interval:
    """Of the difference after - before of two proportions on the same examples (N,) of True and False: the adjusted
    Wald interval of Bonett and Price (2012), which counts only the examples that changed, with one added to each of
    the two ways to change."""
    gained, lost, count = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    up, down = (gained + 1) / (count + 2), (lost + 1) / (count + 2)
    half = Z * math.sqrt((up + down - (up - down) ** 2) / (count + 2))
    return Interval(max(-1.0, up - down - half), min(1.0, up - down + half))  # no difference lies beyond


def bootstrap_ratio(total: np.ndarray, weight: np.ndarray) -> Interval:
    """Of sum(total) / sum(weight) over units (N,) that are drawn again with replacement, such as windows with their
    sums of losses and numbers of tokens: the 2.5 and 97.5 % points of 10,000 such draws, always the same ones (Efron
    1979). N = 1 gives one point."""
    rng = np.random.default_rng(0)
    ratios = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.integers(0, len(total), len(total))
        ratios[i] = total[drawn].sum() / weight[drawn].sum()
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Interval(float(low), float(high))
