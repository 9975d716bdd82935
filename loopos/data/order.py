"""The order in which things of an epoch come: a pure function of (seed, epoch), and where in it a batch stands."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """0..count-1 in an order that depends on (seed, epoch) only; int64 (count,).

    Each number gets a 64-bit key, the output of Philox4x64-10 (Salmon et al. 2011) under the key (seed, epoch) at
    counters 1, 2, ..., and the numbers are sorted by key, equal keys by number: every step is fixed."""
    keys = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(count)
    return np.argsort(keys, kind="stable")


class Order:
    """``count`` things, each once an epoch, shuffled; the epochs laid end to end, and batches cut from that: every
    batch is full and may cross a border, or hold several epochs when it is larger than one."""

    def __init__(self, count: int, seed: int):
        self.count = count
        self._epoch = lru_cache(maxsize=2)(lambda epoch: permutation(count, seed, epoch))  # two: across a border

    def batch(self, number: int, size: int) -> np.ndarray:
        """Those of batch ``number`` of ``size``, from 0; int64 (size,)."""
        first, parts = number * size, []
        while size:
            epoch, at = divmod(first, self.count)
            part = self._epoch(epoch)[at : at + size]
            parts.append(part)
            first, size = first + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
