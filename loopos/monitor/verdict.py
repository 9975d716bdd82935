"""Is it learning? A trend test on a series of losses, and what the held-out losses say beside it.

Trend: Mann-Kendall (Mann 1945, Econometrica 13:245; Kendall 1975) with the variance corrected for autocorrelation after
Hamed and Rao (1998, J. Hydrology 204:182), and the slope of Theil and Sen with its interval (Sen 1968, JASA 63:1379).
Both go by ranks and medians: one outlier decides nothing, and no shape of the curve is assumed. "Flat" is a claim too:
it is made where no fall shows and the interval leaves room for none that would matter; between is no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loopos.checks import finite_or_none

from . import heldout
from .heldout import HeldOutVerdict, Point
from .ladder import Ladder

LEARNING, FLAT, DIVERGING, INSUFFICIENT = "learning", "flat", "diverging", "insufficient evidence"
OVERFITTING, NOT_EVALUATED = "overfitting", "not evaluated"  # where held-out losses say so
FEWEST = 8  # entries; of fewer even a perfect order is too likely by chance among runs that are looked at
FEWEST_FLAT = 20  # below, no trend is no evidence of none
ALPHA = 0.001  # one-sided: a flat run is called learning once in a thousand
NO_FALL = 0.05  # one-sided: below, a fall may be there
_OPEN_Z = 2.054  # one-sided 98 %: a fall beyond the interval is there in one of fifty
_OPEN_NOISE = 2.5  # times the noise about the trend: a fall over the whole series that would matter
_EARLY, _SURELY = 4.0, 12.0  # standard errors by which the first entries lie above the second half: it fell early
_PEAK, _RESTART = 0.99, 1.5  # of the highest learning rate; of one before it
_LARGE = 1e300  # losses beyond are scaled down by a power of two: their sums and differences could leave the range
_BINS = 120  # longer series are reduced to medians of consecutive parts


@dataclass(frozen=True)
class Trend:
    """p_falling, p_rising: one-sided; change: Theil-Sen slope times length, in nats; count: values that were tested;
    lowest: the one-sided 98 % limit of change: a deeper fall is as good as excluded."""

    p_falling: float
    p_rising: float
    change: float
    count: int
    lowest: float = -math.inf


@dataclass(frozen=True)
class Verdict:
    """kind: LEARNING, FLAT, DIVERGING or INSUFFICIENT by the training losses; OVERFITTING where the held-out loss rises
    meanwhile, NOT_EVALUATED where it is not finite, or 0. says: a sentence with the numbers; counts are of entries
    given: used in the test, not finite, and of the warm-up (left out); rung: where the loss is on the ladder, when one
    was given and it is flat or learning; held_out: what the evaluations say, of a history."""

    kind: str
    says: str
    trend: Trend | None
    used: int
    nonfinite: int
    warmup: int
    rung: str | None = None
    held_out: HeldOutVerdict | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.says}"


def trend(values: Sequence[float] | np.ndarray) -> Trend:
    """Of finite values in order; needs at least 3. More than 120 are first reduced to medians of consecutive parts."""
    values = _reduced(np.asarray(values, np.float64))
    n = len(values)
    later, earlier = np.tril_indices(n, -1)
    differences = values[later] - values[earlier]
    score = float(np.sign(differences).sum())
    slopes = np.sort(differences / (later - earlier))
    _, ties = np.unique(values, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if variance <= 0:  # all equal
        return Trend(1.0, 1.0, 0.0, n, 0.0)
    deviation = math.sqrt(variance * _correction(values))
    z = (score - math.copysign(1, score)) / deviation if score else 0.0
    lowest = slopes[max(0, int((len(slopes) - _OPEN_Z * deviation) / 2))]
    return Trend(_upper(-z), _upper(z), float(np.median(slopes)) * (n - 1), n, float(lowest) * (n - 1))


def _reduced(values: np.ndarray) -> np.ndarray:
    return values if len(values) <= _BINS else np.array([np.median(part) for part in np.array_split(values, _BINS)])


def _correction(values: np.ndarray) -> float:
    """Hamed and Rao: by how much autocorrelation of what is left of the trend widens the score; at least 1.

    The trend is taken out of the ranks: the score knows only ranks, and a curve that falls without noise, however bent,
    leaves nothing there."""
    n = len(values)
    ranks, time = _ranks(values), np.arange(n)
    later, earlier = np.tril_indices(n, -1)
    ranks -= float(np.median((ranks[later] - ranks[earlier]) / (later - earlier))) * time
    ranks -= ranks.mean()
    power = float((ranks**2).sum())
    if power < 1e-6 * n:
        return 1.0
    total = 0.0
    for lag in range(1, n - 2):
        correlation = float((ranks[:-lag] * ranks[lag:]).sum()) / power
        if correlation <= 1.96 / math.sqrt(n):  # not told from none: the longer lags are noise
            break
        total += (n - lag) * (n - lag - 1) * (n - lag - 2) * correlation
    return max(1.0, 1 + 2 * total / (n * (n - 1) * (n - 2)))


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 0; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


def _upper(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def verdict(
    losses: Sequence[float | None],
    learning_rates: Sequence[float | None] | None = None,
    *,
    rungs: Ladder | None = None,
) -> Verdict:
    """Whether these losses, in order, show learning.

    losses: None (null in metrics.jsonl), NaN and inf are counted and left out. learning_rates: of the same entries;
    those before the peak are warm-up, in which losses say little of the run, and are left out. A few entries are no
    evidence: the verdict is then "insufficient evidence". ValueError when the lengths differ."""
    values = np.array([math.nan if loss is None else float(loss) for loss in losses], np.float64)
    warmup, rates = np.zeros(len(values), bool), np.full(len(values), math.nan)
    if learning_rates is not None:
        rates = np.array([math.nan if rate is None else float(rate) for rate in learning_rates], np.float64)
        if len(rates) != len(values):
            raise ValueError(f"verdict: expected as many learning_rates as losses, got {len(rates)} and {len(values)}")
        if np.isfinite(rates).any():
            peak = int(np.argmax(rates >= _PEAK * np.nanmax(rates)))  # the first, where the schedule restarts
            warmup[:peak] = np.nanmax(rates) > np.nanmin(rates)
    finite = np.isfinite(values)
    used = values[finite & ~warmup]
    scale = 2.0**-16 if np.abs(used).max(initial=0.0) > _LARGE else 1.0
    used = used * scale
    left_out = int((finite & warmup).sum())
    bad = int((~finite).sum())
    parts = [_losses(len(used))]
    parts += [f"{left_out} of the warm-up left out"] if left_out else []
    parts += [f"{bad} not finite"] if bad else []
    counted = ", ".join(parts)

    def result(kind: str, says: str, found: Trend | None = None, rung: str | None = None) -> Verdict:
        return Verdict(kind, f"{says} ({counted})", found, len(used), bad, left_out, rung)

    if bad >= 3 and not finite[-3:].any():
        return result(DIVERGING, "the last losses are not finite")
    if len(used) < FEWEST:
        return result(
            INSUFFICIENT, f"{_losses(len(used))} cannot show a trend; at least {FEWEST} after the warm-up are needed"
        )
    found = trend(used)
    shown = replace(found, change=found.change / scale, lowest=found.lowest / scale)
    recent = used[len(used) // 2 :]
    level = float(np.median(recent[-max(3, len(recent) // 3) :])) / scale
    if _rises(used[_restart(rates[finite & ~warmup]) :]):
        return result(DIVERGING, f"the loss rises, to {level:.4g} from a best of {_best(used) / scale:.4g}", shown)
    falls = found.p_falling < ALPHA and found.change < 0
    if falls or _fell_early(used, _SURELY):
        now = trend(recent) if len(recent) >= FEWEST_FLAT else None
        stopped = not falls or (now is not None and now.p_falling >= NO_FALL)
        says = (
            f"the loss falls, p = {found.p_falling:.1g}, now {level:.4g}" if falls else f"the loss fell, to {level:.4g}"
        )
        if stopped:
            says += "; in its second half it no longer does"
        if rungs is None:
            return result(LEARNING, says, shown)
        rung, meaning = rungs.rung(level)
        says += f", at {level:.4g}: {meaning}" if stopped else f", {rung} on the entropy ladder: {rungs}"
        return result(LEARNING, says, shown, rung)
    if (why := _undecided(used, found)) is not None:
        return result(INSUFFICIENT, why, shown)
    rung, meaning = rungs.rung(level) if rungs is not None else (None, "")
    says = "the loss does not move at all" if np.ptp(used) == 0 else f"no fall shows, p = {found.p_falling:.2g}"
    return result(FLAT, f"{says}, at {level:.4g}" + (f": {meaning}" if meaning else ""), shown, rung)


def of_history(entries: Iterable[Mapping[str, Any]], rungs: Ladder | None = None) -> Verdict:
    """The verdict on the entries of a history, or the records of metrics.jsonl: on the training losses of those that
    scored any target, and on the held-out losses beside them (null is one that is not finite)."""
    entries = list(entries)
    scored = [(i, entry) for i, entry in enumerate(entries) if "loss" in entry and entry.get("valid_tokens") != 0]
    rates = [finite_or_none(entry.get("learning_rate")) for _, entry in scored]
    losses = [finite_or_none(entry["loss"]) for _, entry in scored]
    found = verdict(losses, None if None in rates else rates, rungs=rungs)
    held = [
        Point(
            i,
            f"step {entry.get('step', i + 1)}",
            math.nan if (loss := finite_or_none(entry["eval_loss"])) is None else loss,
        )
        for i, entry in enumerate(entries)
        if "eval_loss" in entry
    ]
    training = [(i, loss) for (i, _), loss in zip(scored, losses, strict=True) if loss is not None]
    return with_held_out(found, heldout.compare(held, training))


def with_held_out(found: Verdict, held: HeldOutVerdict) -> Verdict:
    """The verdict on the training losses, with what the held-out ones say."""
    kind, says = found.kind, f"{found.says}; {held.says}"
    if held.kind in (heldout.NOT_FINITE, heldout.ZERO):
        kind, says = NOT_EVALUATED, f"{held.says}. By the training loss: {found}"
    elif held.kind == heldout.RISES:
        says = f"{held.says}. By the training loss: {found}"
        if held.clear and (found.kind == LEARNING or (held.by_heart and found.kind != DIVERGING)):
            kind = OVERFITTING
    elif held.kind == heldout.ABSENT and found.kind != LEARNING:
        says = found.says
    return replace(found, kind=found.kind if found.kind == DIVERGING else kind, says=says, held_out=held)


def _losses(count: int) -> str:
    return f"{count} loss{'es' if count != 1 else ''}"


def _best(used: np.ndarray) -> float:
    """The lowest median of an eighth of the series."""
    return float(min(np.median(part) for part in np.array_split(used, 8)))


def _undecided(used: np.ndarray, found: Trend) -> str | None:
    """Why a series that shows no certain fall is not called flat either; None where it is."""
    if np.ptp(used) == 0:
        return None
    if found.p_falling < NO_FALL:
        return f"a fall may be there (p = {found.p_falling:.2g}), and is not beyond doubt"
    if len(used) < FEWEST_FLAT:
        return f"no trend shows (p = {found.p_falling:.2g}), and {_losses(len(used))} are too few to say"
    values = _reduced(used)
    line = found.change * np.arange(len(values)) / (len(values) - 1)
    if -found.lowest > _OPEN_NOISE * _spread(values - line):
        return f"no trend shows (p = {found.p_falling:.2g}), and the noise may hide a fall"
    return "it fell at the start, and no trend shows after that" if _fell_early(used, _EARLY) else None


def _fell_early(used: np.ndarray, errors: float) -> bool:
    """Whether the first entries lie that many standard errors above the second half, and no later one as high."""
    if len(used) < FEWEST_FLAT:
        return False
    values = _reduced(used)
    half = values[len(values) // 2 :]
    above = (math.sqrt(k) * float(np.median(values[:k]) - np.median(half)) for k in range(1, len(values) // 4 + 1))
    return max(above) > errors * _spread(half) and values[0] > half.max()


def _spread(values: np.ndarray) -> float:
    """Standard deviation of a normal distribution with the same median absolute deviation, or the same mean one where
    most values are equal; no squares, which could leave the range."""
    away = np.abs(values - np.median(values))
    return 1.4826 * float(np.median(away)) or 1.2533 * float(np.mean(away))


def _restart(rates: np.ndarray) -> int:
    """Where the schedule was last at a new peak, 0 where it never rose again: up to there a loss rises with it."""
    to_come = np.maximum.accumulate(rates[::-1])[::-1]
    low = np.flatnonzero(to_come > _RESTART * rates)
    return int(low[-1]) + 1 + int(np.argmax(rates[low[-1] + 1 :])) if len(low) else 0


def _rises(used: np.ndarray) -> bool:
    """A significant rise, of the whole or since its best part, that is also large beside the noise."""
    if len(used) < FEWEST:
        return False
    parts = np.array_split(used, 8)
    best = int(np.argmin([np.median(part) for part in parts]))
    since = np.concatenate(parts[best:])
    noise = 1.4826 * float(np.median(np.abs(np.diff(used)))) / math.sqrt(2)
    lifted = float(np.median(parts[-1])) - float(np.median(parts[best])) > max(4 * noise, 0.02 * abs(_best(used)))
    if not lifted:
        return False
    return trend(used).p_rising < ALPHA or (len(since) >= FEWEST and trend(since).p_rising < ALPHA)
