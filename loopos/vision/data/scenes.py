"""What stands in a picture of shapes, and the sentences that say so.

Each arrangement of shapes has one canonical caption and other ways to say the same; a sentence of the grammar is read
back as the scene that it tells of, so whether a caption is true can be decided.
"""

from __future__ import annotations

import re
from typing import NamedTuple

COLOURS = {  # red, green, blue from 0 to 255
    "red": (216, 36, 40),
    "green": (36, 160, 60),
    "blue": (44, 84, 224),
    "yellow": (240, 208, 36),
    "purple": (144, 52, 168),
}
SHAPES = ("circle", "square", "triangle")
THINGS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)

# By arrangement: its canonical caption, then other true ones. {0} to {2} are the shapes from left to right, then down.
CAPTIONS = {
    "single": ("{0}", "there is {0}"),
    "row of two": ("{0} left of {1}", "{1} right of {0}"),
    "column of two": ("{0} above {1}", "{1} below {0}"),
    "row of three": ("{0} left of {1} left of {2}", "{2} right of {1} right of {0}"),
    "column of three": ("{0} above {1} above {2}", "{2} below {1} below {0}"),
    "two above one": ("{0} left of {1}, both above {2}", "{2} below both {0} and {1}"),
}
WAYS = min(map(len, CAPTIONS.values()))
_THING = f"an? ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"


class Scene(NamedTuple):
    """kind: an arrangement of ``CAPTIONS``; things: (colour, shape) of each, in its order."""

    kind: str
    things: tuple[tuple[str, str], ...]

    def captions(self) -> tuple[str, ...]:
        """All true captions of the grammar, the canonical one first."""
        things = [f"a {colour} {shape}" for colour, shape in self.things]
        return tuple(form.format(*things) for form in CAPTIONS[self.kind])


def _patterns() -> list[tuple[str, list[int], re.Pattern[str]]]:
    """(kind, order of the things in the sentence, what the sentence looks like) of every form."""
    found = []
    for kind, forms in CAPTIONS.items():
        for form in forms:
            order = [int(number) for number in re.findall(r"\{(\d)\}", form)]
            found.append((kind, order, re.compile(re.sub(r"\{\d\}", lambda _: _THING, form))))
    return found


_PATTERNS = _patterns()


def parse_caption(caption: str) -> Scene | None:
    """The scene that a sentence tells of; None where the grammar has no such sentence. Case, spaces around words and
    punctuation, and a full stop at the end do not matter."""
    plain = re.sub(r"\s+", " ", re.sub(r"\s*,\s*", ", ", caption.lower())).strip().removesuffix(".").rstrip()
    for kind, order, pattern in _PATTERNS:
        if match := pattern.fullmatch(plain):
            words = match.groups()
            told = {place: (words[2 * at], words[2 * at + 1]) for at, place in enumerate(order)}
            return Scene(kind, tuple(told[place] for place in range(len(order))))
    return None
