"""Random numbers that are a pure function of where they are used, the same ones on every machine."""

from __future__ import annotations

import numpy as np

# What is drawn. A site of its own gives numbers of its own, whatever the seed and the index.
SCENE, NOISE, UNSEEN, CAPTION, AUGMENT, SUBSET, WARP = range(1, 8)


def raw(count: int, site: int, seed: int, index: int, epoch: int = 0) -> np.ndarray:
    """uint64 (count,): the output of Philox4x64-10 (Salmon et al. 2011) under the key (seed, index), at counters that
    begin at (0, 0, epoch, site). Raw output, not numpy's distributions, whose numbers may change with its version."""
    key = np.array([seed, index], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, epoch, site], np.uint64)).random_raw(count)


def below(bounds: list[int], site: int, seed: int, index: int, epoch: int = 0) -> list[int]:
    """One integer from 0 to bound - 1 for each bound; of a bound far below 2^64, evenly to within bound / 2^64."""
    return [int(word) % bound for word, bound in zip(raw(len(bounds), site, seed, index, epoch), bounds, strict=True)]
