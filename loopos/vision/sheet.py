"""Pictures beside their captions, as one PNG (Pillow, extra [vision])."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loopos.files import durable

from .data.decoding import pillow

SHEET = "captions.png"  # in a run
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
SIDE, MARGIN, COLUMNS, LETTERS, LINE = 128, 12, 3, 34, 13  # pixels, but for columns, and letters of a line
_GOOD, _BAD, _PLAIN = (20, 110, 50), (170, 30, 30), (40, 40, 40)


class Shown(NamedTuple):
    """image: uint8 (H, W, 3). said: its caption; truth: what it should be, and right whether it is; None: not known."""

    image: np.ndarray
    said: str
    truth: str | None = None
    right: bool | None = None


def sheet(pictures: Sequence[Shown]) -> bytes:
    """A PNG of at least one picture: each with its caption to the right, in green where it is right and in red, with
    the truth below, where it is not."""
    image = pillow()
    from PIL import ImageDraw

    width = SIDE + 3 * MARGIN + LETTERS * 6
    rows = -(-len(pictures) // COLUMNS)
    page = image.new("RGB", (min(COLUMNS, len(pictures)) * width, rows * (SIDE + MARGIN) + MARGIN), "white")
    draw = ImageDraw.Draw(page)
    for place, each in enumerate(pictures):
        left, top = place % COLUMNS * width + MARGIN, place // COLUMNS * (SIDE + MARGIN) + MARGIN
        picture = image.fromarray(each.image)
        scale = SIDE / max(picture.size)
        sizes = tuple(max(1, round(side * scale)) for side in picture.size)
        page.paste(picture.resize(sizes), (left, top))
        lines = [(line, _PLAIN if each.right is None else _GOOD if each.right else _BAD) for line in _lines(each.said)]
        if each.right is False and each.truth is not None:
            lines += [("", _PLAIN), *((line, _PLAIN) for line in _lines(each.truth))]
        for number, (line, colour) in enumerate(lines[: SIDE // LINE]):
            draw.text((left + SIDE + MARGIN, top + number * LINE), line, fill=colour)
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _lines(text: str) -> list[str]:
    plain = text.encode("latin-1", "replace").decode("latin-1")  # what the font that Pillow brings can draw
    return textwrap.wrap(plain, LETTERS) or [""]


def write_sheet(path: str | os.PathLike[str], pictures: Sequence[Shown]) -> None:
    """:func:`sheet` as a file, written aside and renamed."""
    durable.write_bytes(path, sheet(pictures))
