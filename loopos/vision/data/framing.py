"""A picture of any size to a square of one size, and what training varies about it."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from . import draws

_SIDES = re.compile(r"\b(left|right)(most|wards?)?\b", re.I)
MARGIN = 8  # a square that is to be cropped is kept larger by 1/7: of 256 pixels, 224 are seen


class Augment(NamedTuple):
    """What training varies, drawn for each picture and epoch. ``flip`` mirrors half of the pictures, but never one
    whose caption says left or right, nor any of a set where a mirrored picture is another (``mirrored``)."""

    crop: bool = True
    flip: bool = True


NONE = Augment(crop=False, flip=False)


def kept_side(size: int, augment: Augment) -> int:
    """The side of the square that is kept of a picture of which ``size`` is seen: larger where crops vary."""
    return -(-size * MARGIN // (MARGIN - 1)) if augment.crop else size


def centre(square: np.ndarray, size: int) -> np.ndarray:
    """The middle (size, size, 3) of a square (S, S, 3): a view."""
    first = (square.shape[0] - size) // 2
    return square[first : first + size, first : first + size]


def varied(square: np.ndarray, size: int, augment: Augment, caption: str, place: tuple[int, int, int]) -> np.ndarray:
    """(size, size, 3) of a square (S, S, 3), a view: a crop and a reflection drawn by place (seed, picture, epoch)."""
    seed, picture, epoch = place
    spare = square.shape[0] - size + 1
    down, across, mirrored = draws.below([spare, spare, 2], draws.AUGMENT, seed, picture, epoch)
    seen = square[down : down + size, across : across + size] if augment.crop else centre(square, size)
    return seen[:, ::-1] if augment.flip and mirrored and not tells_sides(caption) else seen


def tells_sides(caption: str) -> bool:
    """Whether a caption says left or right, so that it may be untrue of the mirrored picture."""
    return _SIDES.search(caption) is not None
