"""The entropy ladder: what a loss that has stopped falling says of what was learned.

Its rungs are ln V (a uniform guess), the entropy of the unigram frequencies, of the bigrams, and below. A loss that
stays on a rung has learned what that rung needs and nothing more, where the rungs can be told apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

KNOWN = 0.05  # nats by which few data may make the entropy of pairs too low
_CALLED = {"bigram": "of pairs", "unigram": "of tokens", "uniform": "of a uniform guess, ln V,"}
_MEANING = {
    "bigram": "no more than the present token is used so far. If what is before it tells more, as in language, and the "
    "loss stays here, attention is dead",
    "unigram": "no more than the frequencies of tokens is used so far. If the loss stays here, gradients reach the "
    "output and not what is below it",
    "uniform": "a uniform guess: nothing has been learned (no update, a rate of 0, labels without relation)",
}
_OR_NOTHING = "a model that learned all there is has this loss, and one that learned nothing"
_NO_PAIRS = "a pair tells no more than a token, so nothing follows on what is below the output"
_NO_MORE = "the present token tells the next one, and the model knows it: there is no more to learn"
_PAIRS_UNKNOWN = ", if there is more to learn: the data are too few to know the entropy of pairs"


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
        it. Where rungs lie within it of each other, all are named, and a loss there tells nothing of what was
        learned."""

        def near(value: float, other: float) -> bool:
            return abs(value - other) <= tolerance * max(other, 0.1)

        if not math.isfinite(loss):
            return "none", "the loss is not finite"
        rungs = {"bigram": self.bigram} if self.pairs_known else {}
        rungs |= {"unigram": self.unigram, "uniform": self.uniform}
        for name, value in rungs.items():
            if near(loss, value):
                alike = [x for x, at in rungs.items() if near(loss, at) or near(at, value) or near(value, at)]
                if len(alike) == 1:
                    if near(value, 0.0):
                        return name, _NO_MORE
                    return name, _MEANING[name] + (_PAIRS_UNKNOWN if name == "unigram" and not self.pairs_known else "")
                what = _OR_NOTHING if "uniform" in alike else _NO_PAIRS
                called = " and ".join(_CALLED[each] for each in alike)
                return " or ".join(alike), f"the entropies {called} are too close to tell apart: {what}"
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
