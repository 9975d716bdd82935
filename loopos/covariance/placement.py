"""Where the sources of a sample stand: drawn evenly over the view, a smallest angle apart."""

from __future__ import annotations

import math

import numpy as np

from . import draws
from .arrays import SensorArray

TRIES = 4096  # candidates of one sample on a plane


def place(array: SensorArray, sources: int, separation: float, view: float, seed: int, index: int) -> np.ndarray:
    """Directions, sorted: (K,) of a line, (K, 2) of a plane. Every set whose members are ``separation`` apart is as
    likely as another: on a line by widening the gaps of sorted numbers, on a plane by refusing candidates one by one
    (there, sets are as likely as that order of choosing makes them). No room for so many: ValueError."""
    if array.angles == 1:
        room = 2 * view - (sources - 1) * separation
        if room <= 0:
            raise ValueError(_no_room(sources, separation, view))
        gaps = np.sort(draws.uniform(sources, draws.DIRECTIONS, seed, index)) * room
        return np.minimum(gaps + separation * np.arange(sources) - view, view)
    tries = 64 if separation else sources
    while len(chosen := _choose(array, tries, sources, separation, view, seed, index)) < sources and tries < TRIES:
        tries *= 4  # begins with the same candidates
    if len(chosen) < sources:
        raise ValueError(_no_room(sources, separation, view))
    return chosen[np.lexsort((chosen[:, 1], chosen[:, 0]))]


def _choose(
    array: SensorArray, tries: int, sources: int, separation: float, view: float, seed: int, index: int
) -> np.ndarray:
    """(up to K, 2): of ``tries`` candidates those that are far enough from all before them."""
    numbers = draws.uniform(2 * tries, draws.DIRECTIONS, seed, index).reshape(-1, 2)
    candidates = (2 * numbers - 1) * (view, math.sin(view))
    candidates[:, 1] = np.arcsin(candidates[:, 1])  # even over the sphere: in the sine of the elevation
    units, chosen = array.unit_vectors(candidates), [0]
    for number in range(1, tries):
        if len(chosen) < sources and (not separation or (units[chosen] @ units[number]).max() <= math.cos(separation)):
            chosen.append(number)
    return candidates[chosen]


def _no_room(sources: int, separation: float, view: float) -> str:
    return (
        f"Simulation: {sources} sources at least {math.degrees(separation):.4g} degrees apart find no room "
        f"from {-math.degrees(view):.4g} to {math.degrees(view):.4g} degrees: take fewer, a smaller separation "
        "or a wider view"
    )
