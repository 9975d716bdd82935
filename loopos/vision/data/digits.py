"""``Digits``: the 1797 handwritten digits of scikit-learn, with captions and with labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .framing import Augment
from .parts import Pictures

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNT, _LEAST = 1797, 100  # pictures there are; fewer have not every digit in both parts
_SIDE, _WHITE = 8, 16  # of the pictures as they are kept: their side, their largest value
_FIFTH = 5


class Digits(Pictures):
    """Handwritten digits (Alpaydin and Kaynak 1998; extra [sklearn]): "a seven".

    image_size: their side, a multiple of 8: each of the 8 x 8 points becomes a square of pixels, white on black. n: so
    many of them, evenly spread over the set; None, and more than there are: all.
    ``labels`` (N,) are the digits. Of each digit every fifth picture is held out: part ``test``; all others are
    ``train``. The set lists its writers one after another, so both parts have something of each. Training
    turns, stretches, slants and shifts them a little (``augment``)."""

    parts = ("train", "test")
    augment = Augment(crop=False, flip=False, warp=0.1)
    classes = NAMES

    def __init__(self, image_size: int = 32, n: int | None = None):
        self.image_size = checks.integer("Digits", "image_size", image_size, low=_SIDE, high=1024)
        if image_size % _SIDE:
            raise ValueError(f"Digits: image_size must be a multiple of {_SIDE}, got {image_size}")
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise ImportError("Digits: the set comes with scikit-learn; pip install 'loopos[sklearn]'") from None
        n = COUNT if n is None else checks.integer("Digits", "n", n, low=_LEAST)
        points, labels = load_digits(return_X_y=True)
        if n < COUNT:
            chosen = np.arange(n) * COUNT // n
            points, labels = points[chosen], labels[chosen]
        self.labels = labels.astype(np.int64)
        self._images = (points.astype(np.int64) * 255 // _WHITE).astype(np.uint8).reshape(-1, _SIDE, _SIDE)
        self._held_out = np.zeros(len(labels), bool)
        for digit in range(len(NAMES)):
            self._held_out[np.flatnonzero(labels == digit)[_FIFTH - 1 :: _FIFTH]] = True

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Digits({self.image_size})" if len(self) == COUNT else f"Digits({self.image_size}, {len(self)})"

    def name(self, index: int) -> str:
        return f"digit {self._check_index(index)}"

    def indices(self, part: str) -> np.ndarray:
        self._check_part(part)
        return np.flatnonzero(self._held_out == (part == "test"))

    def captions(self, index: int) -> tuple[str, ...]:
        digit = NAMES[self.labels[self._check_index(index)]]
        return (f"an {digit}" if digit == "eight" else f"a {digit}",)

    def image(self, index: int) -> np.ndarray:
        """uint8 (image_size, image_size, 3)."""
        wide = self.image_size // _SIDE
        grey = self._images[self._check_index(index)].repeat(wide, 0).repeat(wide, 1)
        return np.repeat(grey[..., None], 3, axis=2)

    def fingerprint(self) -> dict[str, Any]:
        return {"kind": "digits", "image_size": self.image_size, "count": len(self)}
