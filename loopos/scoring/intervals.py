"""How far a measured number may be from the true one: intervals of 95 %."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054  # the 97.5 % point of the normal distribution
RESAMPLES = 10_000

WILSON = "Wilson, 95 %"
PAIRED = "Bonett-Price, paired, 95 %"
STUDENT = "Student's t, paired, 95 %"
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


def paired_means(differences: np.ndarray, comparisons: int = 1) -> Interval:
    """Of the mean of ``differences`` (N,) of two things measured N times each, in pairs that have everything else in
    common (Student 1908). comparisons: how many such intervals are to hold together with 95 %; each is then as wide
    as (100 - 5 / comparisons) % asks (Bonferroni). N = 1 tells nothing of the spread: (-inf, inf)."""
    count = len(differences)
    if count < 2:
        return Interval(-math.inf, math.inf)
    middle = float(np.mean(differences))
    half = student_quantile(1 - 0.025 / comparisons, count - 1) * float(np.std(differences, ddof=1)) / math.sqrt(count)
    return Interval(middle - half, middle + half)


def student_quantile(share: float, freedom: int) -> float:
    """The point that a t variable with ``freedom`` degrees stays below with probability ``share``, 0.5 <= share < 1.
    With t = sqrt(freedom) tan(a) the density is cos(a)^(freedom - 1) on a bounded interval, which is integrated by 200
    Gauss-Legendre points and inverted by bisection."""
    nodes, weights = np.polynomial.legendre.leggauss(200)

    def below(angle: float) -> float:
        return float(np.sum(weights * np.cos((nodes + 1) * angle / 2) ** (freedom - 1))) * angle / 2

    low, high, wanted = 0.0, math.pi / 2, (2 * share - 1) * below(math.pi / 2)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < wanted else (low, middle)
    return math.sqrt(freedom) * math.tan(high)
