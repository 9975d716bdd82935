"""Root-MUSIC: the null spectrum of a uniform line as a polynomial, whose roots are found without a grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .arrays import ULA
from .subspace import directions_of, residual, signal_subspace


def root_music(covariance: Any, array: ULA, sources: int) -> np.ndarray:
    """The K directions (K,), sorted, radians, of one ``covariance`` (N, N) of a uniform line.

    z^(N-1) ||(I - E_s E_sᴴ) a(z)||^2 is a polynomial of degree 2 N - 2 whose coefficients are the sums along the
    diagonals of the noise projector. Its roots come in pairs z, 1 / conj(z); those K pairs nearest to the unit circle
    are the sources, z = exp(2 pi j spacing sin t). A plane: TypeError. Source: Barabell 1983; Rao, Hari 1989."""
    if not isinstance(array, ULA):
        raise TypeError(f"root_music: array must be a ULA, got {checks.shown(array)}; music and esprit take a plane")
    signal = signal_subspace("root_music", covariance, array, sources)
    noise = residual(signal, np.eye(array.sensors, dtype=np.complex128))
    degrees = range(array.sensors - 1, -array.sensors, -1)
    roots = np.roots([np.trace(noise, offset=degree) for degree in degrees])
    folded = roots.copy()  # each pair becomes one root, twice
    folded[np.abs(roots) > 1] = 1 / roots[np.abs(roots) > 1].conj()
    nearest = folded[np.argsort(-np.abs(folded), kind="stable")].tolist()
    chosen = []
    while nearest and len(chosen) < sources:
        one = nearest.pop(0)
        if nearest:
            twin = int(np.argmin(np.abs(np.array(nearest) - one)))
            one = (one + nearest.pop(twin)) / 2  # without noise a double root, right to 1e-8, its mean to 1e-15
        chosen.append(one)
    angles = np.angle(np.array(chosen))
    return directions_of(array, (angles / (2 * np.pi * array.spacing))[:, None])
