"""Shrinkage of a sample covariance towards a multiple of I: Ledoit-Wolf, RBLW and OAS, for real and complex data.

The estimate is (1 - r) S + r m I, m = tr S / p, of n snapshots of p sensors with mean 0 and the sample covariance S =
(1 / n) sum x xᴴ. The squared error E||(1 - r) S + r m I - R||_F^2 is a parabola in r with its minimum at

    r = E tr[(R - S)(m I - S)] / E||S - m I||_F^2.

Chen, Wiesel, Eldar, Hero (IEEE Trans. Signal Processing 58 (2010) 5016) work it out for real Gaussian data. What
follows is the same for **circular complex Gaussian** data, whose fourth moments have one pairing less:

    real     E tr S^2 = (1 + 1/n) tr R^2 + tr^2 R / n     E tr^2 S = tr^2 R + 2 tr R^2 / n
    complex  E tr S^2 =           tr R^2 + tr^2 R / n     E tr^2 S = tr^2 R +   tr R^2 / n

(tr^2 R is (tr R)^2.) Numerator: E[tr S^2 - tr^2 S / p] - tr R^2 + tr^2 R / p, denominator: E[tr S^2 - tr^2 S / p]; so
n times each gives the **oracle**

    real     r = [(1 - 2/p) tr R^2 + tr^2 R] / [(n + 1 - 2/p) tr R^2 + (1 - n/p) tr^2 R]
    complex  r = [     -1/p tr R^2 + tr^2 R] / [(n     - 1/p) tr R^2 + (1 - n/p) tr^2 R].

**OAS** puts tr(estimate S) for tr R^2 and tr S for tr R and iterates. With a and b the factors of tr R^2 above and
below, a fixed point solves r (b t + (1 - n/p) tr^2 S) = a t + tr^2 S, t = tr S^2 - r d, d = tr S^2 - tr^2 S / p. This
quadratic has the root 1 (because b - n = a, in both cases), so that the other is (a tr S^2 + tr^2 S) / (b d):

    real     r = min(1, [(1 - 2/p) tr S^2 + tr^2 S] / [(n + 1 - 2/p) d])
    complex  r = min(1, [     -1/p tr S^2 + tr^2 S] / [(n     - 1/p) d]).

**Ledoit-Wolf** (2004) estimates E||S - R||^2 by (1 / n^2) sum ||x xᴴ - S||^2 = (1 / n^2) sum |x|^4 - tr S^2 / n and
supposes no distribution: real and complex have one formula, r = min(1, that / d). **RBLW** is its mean given S (Rao,
Blackwell). Given S, a snapshot is sqrt(n) S^(1/2) u with u a row of a random isometry, so of a unit vector of n entries
evenly over the sphere, where E (uᴴ S u)^2 is (tr^2 S + 2 tr S^2) / (n (n + 2)) in the real case and (tr^2 S + tr S^2) /
(n (n + 1)) in the complex one. With E sum |x|^4 = n^3 times that:

    real     r = min(1, [(n - 2)/n tr S^2 + tr^2 S] / [(n + 2) d])
    complex  r = min(1, [   - 1/n  tr S^2 + tr^2 S] / [(n + 1) d]).

Arrays of a complex dtype are taken as circular complex data, real ones as real. The formulas presuppose mean 0; of
snapshots whose mean was taken off, n is L - 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from loopos import checks

from .sample import covariance_of, sample_covariance


class Shrunk(NamedTuple):
    """A shrunk covariance (..., N, N) and the weight r of the multiple of I in it, float64 (...)."""

    covariance: np.ndarray
    weight: np.ndarray


def ledoit_wolf(snapshots: Any) -> Shrunk:
    """The shrinkage of Ledoit and Wolf (2004) of ``snapshots`` (..., L, N) with mean 0. Numbers that are not finite, or
    no snapshots: ValueError."""
    sample = sample_covariance(snapshots)
    rows = np.asarray(snapshots)
    length = rows.shape[-2]
    fourth = np.square(np.square(np.abs(rows.astype(sample.dtype))).sum(-1)).sum(-1)
    squared, _, away = _traces(sample)
    return _shrunk(sample, fourth / length**2 - squared / length, away)


def rblw(covariance: Any, snapshots: int) -> Shrunk:
    """Rao-Blackwell Ledoit-Wolf of a sample ``covariance`` (..., N, N) of n = ``snapshots``: for Gaussian data never
    worse than Ledoit-Wolf. A covariance that is not square or not finite: ValueError."""
    sample = covariance_of("rblw", covariance)
    n = checks.count("rblw", "snapshots", snapshots)
    squared, trace, away = _traces(sample)
    factor, below = (-1 / n, n + 1) if sample.dtype.kind == "c" else ((n - 2) / n, n + 2)
    return _shrunk(sample, factor * squared + trace**2, below * away)


def oas(covariance: Any, snapshots: int) -> Shrunk:
    """Oracle approximating shrinkage of a sample ``covariance`` (..., N, N) of n = ``snapshots``: Chen and others find
    it nearer to the oracle than RBLW where n is far below N. scikit-learn's OAS leaves the 2/p of the real formula out.
    A covariance that is not square or not finite: ValueError."""
    sample = covariance_of("oas", covariance)
    factor, below = _factors(sample, checks.count("oas", "snapshots", snapshots))
    squared, trace, away = _traces(sample)
    return _shrunk(sample, factor * squared + trace**2, below * away)


def oracle_weight(true: Any, snapshots: int) -> np.ndarray:
    """The weight r with the least expected squared error for Gaussian data of the ``true`` covariance (..., N, N) and
    n = ``snapshots``: float64 (...). What nobody knows, and the others approximate."""
    known = covariance_of("oracle_weight", true)
    n = checks.count("oracle_weight", "snapshots", snapshots)
    factor, below = _factors(known, n)
    squared, trace, _ = _traces(known)
    return (factor * squared + trace**2) / (below * squared + (1 - n / known.shape[-1]) * trace**2)


def _factors(matrix: np.ndarray, n: int) -> tuple[float, float]:
    """a and b of the oracle."""
    p = matrix.shape[-1]
    return (-1 / p, n - 1 / p) if matrix.dtype.kind == "c" else (1 - 2 / p, n + 1 - 2 / p)


def _traces(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """tr S^2, tr S and d = ||S - m I||_F^2, summed as it stands: a difference of the first two would cancel."""
    trace = np.trace(matrix, axis1=-2, axis2=-1).real
    off = matrix - (trace / matrix.shape[-1])[..., None, None] * np.eye(matrix.shape[-1])
    return np.square(np.abs(matrix)).sum((-2, -1)), trace, np.square(np.abs(off)).sum((-2, -1))


def _shrunk(sample: np.ndarray, above: np.ndarray, below: np.ndarray) -> Shrunk:
    """A multiple of I stays what it is, with the weight 1."""
    weight = np.clip(np.divide(above, below, out=np.ones_like(above), where=below > 0), 0, 1)
    size = sample.shape[-1]
    mean = np.trace(sample, axis1=-2, axis2=-1).real / size
    target = (weight * mean)[..., None, None] * np.eye(size)
    return Shrunk((1 - weight)[..., None, None] * sample + target, weight)
