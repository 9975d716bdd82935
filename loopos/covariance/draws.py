"""Random numbers of a simulation: a pure function of (seed, index, site), whatever is drawn beside them."""

from __future__ import annotations

import numpy as np

# What is drawn. A site of its own gives numbers of its own.
DIRECTIONS, SOURCES, SNR, PHASES, SIGNALS, NOISE, CALIBRATION = range(1, 8)


def uniform(count: int, site: int, seed: int, index: int) -> np.ndarray:
    """float64 (count,) in (0, 1), of 53 bits: the output of Philox4x64-10 (Salmon et al. 2011) under the key (seed,
    index), at counters that begin at (0, 0, 0, site). Raw output: numpy's distributions may change with its version.
    The first numbers of a longer draw are those of a shorter one."""
    key = np.array([seed, index], np.uint64)
    words = np.random.Philox(key=key, counter=np.array([0, 0, 0, site], np.uint64)).random_raw(count)
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def circular(count: int, site: int, seed: int, index: int) -> np.ndarray:
    """complex128 (count,): circular complex Gaussian numbers with E|z|^2 = 1, z = sqrt(-log u) exp(2 pi j v) (Box and
    Muller 1958)."""
    pairs = uniform(2 * count, site, seed, index)
    return np.sqrt(-np.log(pairs[0::2])) * np.exp(2j * np.pi * pairs[1::2])


def normal(count: int, site: int, seed: int, index: int) -> np.ndarray:
    """float64 (count,): Gaussian numbers of variance 1."""
    return np.sqrt(2.0) * circular(count, site, seed, index).real
