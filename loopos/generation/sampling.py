"""Choosing the next token from logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopos import checks

_MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, with the meanings and in the order that transformers' generate has.

    repetition_penalty: logits of tokens that the row has already, prompt included, are divided by it where they are
    above 0 and multiplied where they are below (Keskar et al., 2019, CTRL). It acts first, and on greedy choice too.
    temperature: logits are divided by it; 0 is greedy, ties go to the lowest id. top_k: the k most likely stay. top_p:
    then the fewest whose probabilities reach p (Holtzman et al., 2020). min_p: then those that are at least min_p times
    as likely as the most likely one (Nguyen et al., 2024). None: no such cut.

    Ids of a vocabulary that was made larger than its tokenizer, for the sake of round sizes, are chosen like any other,
    as in transformers, so that greedy tokens are the same there. A trained model gives them next to no probability;
    they have no text."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    @classmethod
    def checked(
        cls,
        where: str,
        *,
        temperature: Any = 1.0,
        top_k: Any = None,
        top_p: Any = None,
        min_p: Any = None,
        repetition_penalty: Any = 1.0,
    ) -> Sampling:
        """Of what a caller of the function ``where`` gave: ValueError out of range, TypeError for another type."""
        temperature = checks.real(where, "temperature", temperature, low=0)
        if top_k is not None:
            top_k = checks.integer(where, "top_k", top_k, low=1)
        if top_p is not None:
            top_p = checks.real(where, "top_p", top_p, above=0, high=1)
        if min_p is not None:
            min_p = checks.real(where, "min_p", min_p, low=0, high=1)
        penalty = checks.real(where, "repetition_penalty", repetition_penalty, above=0)
        return cls(temperature, top_k, top_p, min_p, penalty)

    def choose(self, logits: np.ndarray, histories: Sequence[np.ndarray], uniform: np.ndarray) -> np.ndarray:
        """One token id per row of ``logits`` (B, V), int64. histories: the ids that each row has so far."""
        if self.repetition_penalty != 1.0:
            logits = penalised(logits, histories, self.repetition_penalty)
        cuts = {"top_k": self.top_k, "top_p": self.top_p, "min_p": self.min_p}
        return sample(logits, temperature=self.temperature, uniform=uniform, **cuts)


def penalised(logits: np.ndarray, histories: Sequence[np.ndarray], penalty: float) -> np.ndarray:
    """A copy of ``logits`` (B, V), float64, with the repetition penalty on what each history (N,) of ids holds."""
    result = logits.astype(np.float64)
    for row, history in zip(result, histories, strict=True):
        seen = np.unique(history)
        row[seen] = np.where(row[seen] < 0, row[seen] * penalty, row[seen] / penalty)
    return result


def distribution(
    logits: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(order, p), (B, K) each, K = V or top_k: the ids of each row from the most likely one down, equals in order of
    their ids, and what is left of their probabilities behind the cuts, not normalised; 0 where an id was cut."""
    rows = logits.astype(np.float64)
    rows = (rows - rows.max(axis=-1, keepdims=True)) / temperature
    order = _descending(rows, rows.shape[-1] if top_k is None else min(top_k, rows.shape[-1]))
    likely = np.exp(np.take_along_axis(rows, order, axis=-1))
    whole = np.zeros(rows.shape)  # so that the sum is added in one order whatever is cut
    whole[:, : order.shape[-1]] = likely
    p = likely / whole.sum(axis=-1, keepdims=True)
    if top_p is not None:
        before = np.cumsum(p, axis=-1) - p
        p[before >= top_p] = 0  # the first token always stays
    if min_p is not None:
        p[p < min_p * p[:, :1]] = 0
    return order, p


def _descending(rows: np.ndarray, count: int) -> np.ndarray:
    """The columns of the ``count`` largest numbers of each row, from the largest down, equals in their order: what a
    stable sort gives. A sort that is not is four times as fast, so it does the work and the equals are put in order."""
    result = np.empty((len(rows), count), np.int64)
    for row, out in zip(rows, result, strict=True):
        columns = np.arange(len(row))
        if count < len(row):
            columns = np.flatnonzero(row >= np.partition(row, len(row) - count)[len(row) - count])
        order = columns[np.argsort(-row[columns])]
        falling = row[order]
        same = np.flatnonzero(falling[1:] == falling[:-1])
        for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if len(same) else ():
            order[run[0] : run[-1] + 2].sort()
        out[:] = order[:count]
    return result


def sample(
    logits: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    uniform: np.ndarray,
) -> np.ndarray:
    """One token id per row of ``logits`` (B, V), int64.

    temperature 0 takes the largest logit, the lowest id among equals. Otherwise what :func:`distribution` leaves of the
    row's probabilities is inverted at ``uniform`` (B), numbers in [0, 1). Ties in the cuts go to the lowest id, so a
    result is a function of its arguments alone.
    """
    if temperature == 0:
        return np.argmax(logits, axis=-1).astype(np.int64)
    order, p = distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    total = np.cumsum(p, axis=-1)
    chosen = np.sum(total <= uniform[:, None] * total[:, -1:], axis=-1)
    last = np.count_nonzero(p, axis=-1) - 1
    return np.take_along_axis(order, np.minimum(chosen, last)[:, None], axis=-1)[:, 0]


class UniformStream:
    """Uniform numbers in [0, 1) of 53 bits, a function of the seed and of how many were drawn (raw Philox4x64)."""

    def __init__(self, seed: int):
        self._bits = np.random.Philox(key=seed)

    @classmethod
    def checked(cls, where: str, seed: Any) -> UniformStream:
        """Of the seed that a caller of the function ``where`` gave."""
        return cls(checks.integer(where, "seed", seed, low=0, high=_MAX_SEED))

    def draw(self, n: int) -> np.ndarray:
        return (self._bits.random_raw(n) >> np.uint64(11)) * 2.0**-53
