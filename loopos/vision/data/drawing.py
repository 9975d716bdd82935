"""Shapes drawn in integers, so that a picture has the same bits on every machine and with every version of a library.

Places and sizes are in units of 1/1024 of the picture's side. Each pixel is sampled at 4 x 4 points; how many of them a
shape covers is how much of its colour the pixel takes, rounded.
"""

from __future__ import annotations

import numpy as np

UNITS = 1024  # of a picture's side
_FINE = 4  # samples along a pixel's side


def _covered(shape: str, dx: np.ndarray, dy: np.ndarray, size: int) -> np.ndarray:
    """Whether a point at (dx, dy) from the middle lies in a shape that reaches ``size`` from there. y points down."""
    if shape == "circle":
        return dx * dx + dy * dy <= size * size
    if shape == "square":
        return (8 * abs(dx) <= 7 * size) & (8 * abs(dy) <= 7 * size)
    if shape == "triangle":  # its tip is at the top
        return (abs(dy) <= size) & (2 * abs(dx) <= dy + size)
    raise ValueError(f"drawing: expected circle, square or triangle, got {shape!r}")


def draw(image: np.ndarray, shape: str, colour: tuple[int, int, int], x: int, y: int, size: int) -> None:
    """A shape onto ``image``, int64 (S, S, 3), in place. x, y, size: the middle and the reach, in units."""
    side = image.shape[0]
    scale = 2 * _FINE * side  # a sample stands at an odd number of half-steps: all is multiplied by this
    first = [max(0, (at - size) * side // UNITS) for at in (x, y)]
    last = [min(side, (at + size) * side // UNITS + 1) for at in (x, y)]
    if first[0] >= last[0] or first[1] >= last[1]:
        return
    across, down = (
        (2 * np.arange(_FINE * a, _FINE * b, dtype=np.int64) + 1) * UNITS - at * scale
        for a, b, at in zip(first, last, (x, y), strict=True)
    )
    inside = _covered(shape, across[None, :], down[:, None], size * scale)
    rows, columns = last[1] - first[1], last[0] - first[0]
    share = inside.reshape(rows, _FINE, columns, _FINE).sum((1, 3), dtype=np.int64)[..., None]
    whole = _FINE * _FINE
    part = image[first[1] : last[1], first[0] : last[0]]
    part[:] = (share * np.array(colour, np.int64) + (whole - share) * part + whole // 2) // whole
