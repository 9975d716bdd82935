"""Is it learning? A trend test on a series of losses, and the entropy ladder that says what is dead where it is stuck.

Trend: Mann-Kendall (Mann 1945, Econometrica 13:245; Kendall 1975) with the variance corrected for autocorrelation after
Hamed and Rao (1998, J. Hydrology 204:182), and the slope of Theil and Sen with its interval (Sen 1968, JASA 63:1379).
Both go by ranks and medians: one outlier decides nothing, and no shape of the curve is assumed. "Flat" is a claim too:
it is made where no fall shows and the interval leaves room for none that would matter; between is no evidence.

Ladder: ln V (a uniform guess), the entropy of the unigram frequencies, of the bigrams, and below. A loss that stays on
a rung has learned what that rung needs and nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loopos.checks import finite_or_none

LEARNING, FLAT, DIVERGING, INSUFFICIENT = "learning", "flat", "diverging", "insufficient evidence"
FEWEST = 8  # entries; of fewer even a perfect order is too likely by chance among runs that are looked at
FEWEST_FLAT = 20  # below, no trend is no evidence of none
ALPHA = 0.001  # one-sided: a flat run is called learning once in a thousand
NO_FALL = 0.05  # one-sided: below, a fall may be there
_OPEN_Z = 2.054  # one-sided 98 %: a fall beyond the interval is there in one of fifty
_OPEN_NOISE = 2.5  # times the noise about the trend: a fall over the whole series that would matter
_EARLY = 4.0  # standard errors by which the first entries lie above the second half: they fell, and then no more
KNOWN = 0.05  # nats by which few data may make the entropy of pairs too low
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
class Ladder:
    """In nats a token. bigram is the plug-in conditional entropy: of few data it is too low, by about (pairs - tokens)
    / (2 length) where those are counts of different ones (Miller 1955). pairs_known: that is no more than KNOWN."""

    uniform: float
    unigram: float
    bigram: float
    pairs_known: bool = True

    def __str__(self) -> str:
        pairs = f", pairs {self.bigram:.4g}" if self.pairs_known else ", too few data to know pairs"
        return f"ln V {self.uniform:.4g}, tokens {self.unigram:.4g}{pairs}"

    def rung(self, loss: float, tolerance: float = 0.02) -> tuple[str, str]:
        """(rung, what it says) for a loss that has stopped falling; within ``tolerance`` (relative) of a rung is on
        it. Where rungs lie within it of each other, a loss there tells nothing of what was learned."""

        def near(value: float, other: float) -> bool:
            return abs(value - other) <= tolerance * max(other, 0.1)

        if not math.isfinite(loss):
            return "none", "the loss is not finite"
        rungs = {"bigram": self.bigram} if self.pairs_known else {}
        rungs |= {"unigram": self.unigram, "uniform": self.uniform}
        for name, value in rungs.items():
            if near(loss, value):
                alike = [_CALLED[x] for x, at in rungs.items() if near(loss, at) or near(at, value) or near(value, at)]
                if len(alike) == 1:
                    return name, _MEANING[name] + (_PAIRS_UNKNOWN if name == "unigram" and not self.pairs_known else "")
                both = _CALLED["uniform"] in alike
                what = (
                    "a model that learned all there is has this loss, and one that learned nothing"
                    if both
                    else ("a pair tells no more than a token, so nothing follows on what is below the output")
                )
                return name, f"{' and '.join(alike)} are too close to tell apart: {what}"
        if loss > self.uniform:
            return "above uniform", (
                "worse than a uniform guess: too large an initialisation, shifted labels or divergence"
            )
        if loss > self.unigram:
            return "below uniform", "between a uniform guess and the frequencies of tokens"
        if not self.pairs_known:
            return "below unigram", "below the frequencies of tokens; the data are too few to know those of pairs"
        if loss > self.bigram:
            return "below unigram", "between the frequencies of tokens and those of pairs"
        return "below bigram", "more than the present token is used: the context counts"


_CALLED = {"bigram": "the entropy of pairs", "unigram": "that of tokens", "uniform": "ln V"}
_MEANING = {
    "bigram": "only the present token is used. If what is before it tells more, as in language, attention is dead",
    "unigram": "only the frequencies of tokens were learned: gradients reach the output, not what is below it",
    "uniform": "a uniform guess: nothing has been learned (no update, a rate of 0, labels without relation)",
}
_PAIRS_UNKNOWN = ", if there is more to learn: the data are too few to know the entropy of pairs"


@dataclass(frozen=True)
class Verdict:
    """kind: LEARNING, FLAT, DIVERGING or INSUFFICIENT; says: a sentence with the numbers; counts are of entries given:
    used in the test, not finite, and of the warm-up (left out); rung: where the loss is on the ladder, when one was
    given and it is flat or learning."""

    kind: str
    says: str
    trend: Trend | None
    used: int
    nonfinite: int
    warmup: int
    rung: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.says}"


def ladder(ids: np.ndarray, vocab_size: int) -> Ladder:
    """The rungs of a stream of token ids (N,), N >= 2, of which each is predicted from what is before it.

    ValueError for fewer, IndexError for an id outside 0..vocab_size-1."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or len(ids) < 2 or ids.dtype.kind not in "iu":
        raise ValueError(f"ladder: ids must be at least 2 integers in a row, got {ids.dtype} of shape {ids.shape}")
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, (int, np.integer)) or vocab_size < 1:
        raise ValueError(f"ladder: vocab_size must be a positive integer, got {vocab_size!r}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        raise IndexError(f"ladder: ids must be in 0..{vocab_size - 1}, got {low if low < 0 else high}")
    tokens, ranks = np.unique(ids, return_inverse=True)
    unigram = _entropy(np.bincount(ranks[1:]))
    pairs = np.unique(ranks[:-1].astype(np.int64) * len(tokens) + ranks[1:], return_counts=True)[1]
    bigram = _entropy(pairs) - _entropy(np.bincount(ranks[:-1]))
    known = len(pairs) - len(tokens) <= 2 * KNOWN * len(ids)
    return Ladder(math.log(vocab_size), unigram, max(bigram, 0.0), known)


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


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
    warmup = np.zeros(len(values), bool)
    if learning_rates is not None:
        rates = np.array([math.nan if rate is None else float(rate) for rate in learning_rates], np.float64)
        if len(rates) != len(values):
            raise ValueError(f"verdict: expected as many learning_rates as losses, got {len(rates)} and {len(values)}")
        if np.isfinite(rates).any():
            warmup[: int(np.nanargmax(rates))] = np.nanmax(rates) > np.nanmin(rates)
    finite = np.isfinite(values)
    used = values[finite & ~warmup]
    scale = 2.0**-16 if np.abs(used).max(initial=0.0) > _LARGE else 1.0
    used = used * scale
    left_out = int((finite & warmup).sum())
    bad = int((~finite).sum())
    told = [_losses(len(used))]
    told += [f"{left_out} of the warm-up left out"] if left_out else []
    told += [f"{bad} not finite"] if bad else []
    counted = ", ".join(told)

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
    if _rises(used, found):
        return result(DIVERGING, f"the loss rises, to {level:.4g} from a best of {_best(used) / scale:.4g}", shown)
    if found.p_falling < ALPHA and found.change < 0:
        now = trend(recent) if len(recent) >= FEWEST_FLAT else None
        says = f"the loss falls, p = {found.p_falling:.1g}, now {level:.4g}"
        stopped = now is not None and now.p_falling >= 0.05
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
    """The verdict on the entries of a history, or the records of metrics.jsonl: those that scored any target."""
    scored = [entry for entry in entries if "loss" in entry and entry.get("valid_tokens") != 0]
    rates = [finite_or_none(entry.get("learning_rate")) for entry in scored]
    losses = [finite_or_none(entry["loss"]) for entry in scored]
    return verdict(losses, None if None in rates else rates, rungs=rungs)


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
    half = values[len(values) // 2 :]
    above = (math.sqrt(k) * float(np.median(values[:k]) - np.median(half)) for k in range(1, len(values) // 4 + 1))
    if max(above) > _EARLY * _spread(half):
        return "it fell at the start, and no trend shows after that"
    return None


def _spread(values: np.ndarray) -> float:
    """Standard deviation of a normal distribution with the same median absolute deviation; the plain one of values of
    which most are equal."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) or float(np.std(values))


def _rises(used: np.ndarray, found: Trend) -> bool:
    """A significant rise, of the whole or since its best part, that is also large beside the noise."""
    parts = np.array_split(used, 8)
    best = int(np.argmin([np.median(part) for part in parts]))
    since = np.concatenate(parts[best:])
    noise = 1.4826 * float(np.median(np.abs(np.diff(used)))) / math.sqrt(2)
    lifted = float(np.median(parts[-1])) - float(np.median(parts[best])) > max(4 * noise, 0.02 * abs(_best(used)))
    if not lifted:
        return False
    return found.p_rising < ALPHA or (len(since) >= FEWEST and trend(since).p_rising < ALPHA)
