"""Choosing the next token from logits."""

from __future__ import annotations

import numpy as np


def sample(
    logits: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    uniform: np.ndarray,
) -> np.ndarray:
    """One token id per row of ``logits`` (B, V), int64.

    temperature 0 takes the largest logit, the lowest id among equals. Otherwise the row's probabilities
    softmax(logits / temperature) are cut to the ``top_k`` largest, then to the smallest set of largest ones whose sum
    reaches ``top_p`` (nucleus sampling, Holtzman et al., 2020), and inverted at ``uniform`` (B), numbers in [0, 1).
    Ties in both cuts go to the lowest id, so a result is a function of its arguments alone.
    """
    if temperature == 0:
        return np.argmax(logits, axis=-1).astype(np.int64)
    rows = logits.astype(np.float64)
    rows = (rows - rows.max(axis=-1, keepdims=True)) / temperature
    order = np.argsort(-rows, axis=-1, kind="stable")
    p = np.exp(np.take_along_axis(rows, order, axis=-1))
    if top_k is not None:
        p[:, top_k:] = 0
    p /= p.sum(axis=-1, keepdims=True)
    if top_p is not None:
        before = np.cumsum(p, axis=-1) - p
        p[before >= top_p] = 0  # the first token always stays
    total = np.cumsum(p, axis=-1)
    chosen = np.sum(total <= uniform[:, None] * total[:, -1:], axis=-1)
    last = np.count_nonzero(p, axis=-1) - 1
    return np.take_along_axis(order, np.minimum(chosen, last)[:, None], axis=-1)[:, 0]


class UniformStream:
    """Uniform numbers in [0, 1) of 53 bits, a function of the seed and of how many were drawn (raw Philox4x64)."""

    def __init__(self, seed: int):
        self._bits = np.random.Philox(key=seed)

    def draw(self, n: int) -> np.ndarray:
        return (self._bits.random_raw(n) >> np.uint64(11)) * 2.0**-53
