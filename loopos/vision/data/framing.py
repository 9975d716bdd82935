"""A picture of any size to a square of one size, and what training varies about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from loopos import checks

from . import draws

_SIDES = re.compile(r"\b(left|right)(most|wards?)?\b", re.I)
_UNITS = 1024  # of a warp
_FINE = 2 * _UNITS  # of a pixel's side, in which a warp finds places
MARGIN = 8  # a square that is to be cropped is kept larger by 1/7: of 256 pixels, 224 are seen


class Augment(NamedTuple):
    """What training varies, drawn for each picture and epoch. ``flip`` mirrors half of the pictures, but never one
    whose caption says left or right, nor any of a set where a mirrored picture is another (``mirrored``). ``warp``
    turns, stretches, slants and shifts: see :func:`warped`; 0: not at all."""

    crop: bool = True
    flip: bool = True
    warp: float = 0.0

    def told(self) -> list[Any]:
        """What a checkpoint keeps of it. Without a warp it is the two fields that older runs kept, so that those can be
        resumed."""
        return list(self if self.warp else self[:2])


NONE = Augment(crop=False, flip=False)


def checked_warp(where: str, augment: Augment) -> float:
    """ValueError or TypeError for what is no share of a side."""
    return checks.real(where, "augment.warp", augment.warp, low=0, high=1)


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


def warped(squares: np.ndarray, warp: float, places: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Squares (B, S, S, C) uint8, each turned, stretched, slanted and shifted as drawn by its place (seed, picture,
    epoch). A point at v from the middle, in sides, shows what stood at (1 + A) v + t: the four numbers of A and the two
    of t are up to ``warp`` either way. Between pixels it is linear; what would come from outside repeats the edge. In
    integers, so that every machine has the same bits."""
    most = round(warp * _UNITS)
    moves = np.array([draws.below([2 * most + 1] * 6, draws.WARP, *place) for place in places], np.int64) - most
    yy, yx, xy, xx, ty, tx = moves.T[:, :, None, None]
    side = squares.shape[1]
    from_middle = 2 * np.arange(side, dtype=np.int64) + 1 - side  # in half pixels
    down, across = from_middle[None, :, None], from_middle[None, None, :]
    y, sub_y = _points((_UNITS + yy) * down + yx * across + 2 * side * ty, side)
    x, sub_x = _points((_UNITS + xx) * across + xy * down + 2 * side * tx, side)
    below, right = np.minimum(y + 1, side - 1), np.minimum(x + 1, side - 1)
    row = np.arange(len(squares))[:, None, None]
    above = squares[row, y, x] * (_FINE - sub_x) + squares[row, y, right] * sub_x
    under = squares[row, below, x] * (_FINE - sub_x) + squares[row, below, right] * sub_x
    return ((above * (_FINE - sub_y) + under * sub_y + _FINE * _FINE // 2) // (_FINE * _FINE)).astype(np.uint8)


def _points(from_middle: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Of places in 1/2048 pixels from the middle: the pixel before each, and how far behind its middle it is, with an
    axis for channels."""
    at = np.clip(from_middle + _UNITS * (side - 1), 0, _FINE * (side - 1))
    return at // _FINE, (at % _FINE)[..., None]


def tells_sides(caption: str) -> bool:
    """Whether a caption says left or right, so that it may be untrue of the mirrored picture."""
    return _SIDES.search(caption) is not None
