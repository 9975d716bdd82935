"""``Shapes``: pictures of one to three coloured shapes with captions that are exactly true. Nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from . import draws
from .drawing import UNITS, draw
from .parts import Pictures
from .scenes import COLOURS, THINGS, WAYS, Scene, parse_caption

# By arrangement: how often it comes, of 16, and the middles of its shapes in units.
_LAYOUTS: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "single": (3, ((512, 512),)),
    "row of two": (5, ((256, 512), (768, 512))),
    "column of two": (5, ((512, 256), (512, 768))),
    "row of three": (1, ((192, 512), (512, 512), (832, 512))),
    "column of three": (1, ((512, 192), (512, 512), (512, 832))),
    "two above one": (1, ((256, 256), (768, 256), (512, 768))),
}
_DECK = [kind for kind, (count, _) in _LAYOUTS.items() for _ in range(count)]
# By number of shapes: the smallest reach, the largest, how many steps a middle strays along the arrangement and across.
_ROOM = {1: (176, 240, 2, 2), 2: (144, 176, 0, 1), 3: (112, 144, 0, 0)}
_PLACES, _REACHES = 128, 32  # steps of middles and of reaches, in units: few alignments with patches, so learned sooner
_NOISE = 4  # that a channel of a pixel is off by, at most
_SHADE = 16  # that the colour of a shape is off by, at most
_PERIOD, _PLACE = 10, {"unseen": 7, "valid": 8, "test": 9}  # of ten pictures in a row, the part of one


class Shapes(Pictures):
    """Pictures of one to three coloured shapes: "a red circle left of a blue square".

    n           pictures of all parts; picture i is the same whatever n is
    seed        another seed, other pictures
    image_size  their side in pixels, from 16 to 1024
    captions    ways to say each: 1, the canonical caption alone, or 2, which adds "a blue square right of a red circle"
    unseen      kinds of a shape in a colour, of 15, that no picture has but those of a part of its own, ``unseen``

    Of ten pictures in a row eight are ``train`` (seven with unseen), one ``valid``, one ``test``: held-out pictures of
    the same arrangements. Each picture of ``unseen`` has one kind that training never shows.

    The bits of a picture depend on (seed, i, image_size, unseen) alone, on every machine: integers, drawn by Philox."""

    def __init__(self, n: int = 20_000, seed: int = 1337, *, image_size: int = 64, captions: int = 1, unseen: int = 0):
        self.n = checks.count("Shapes", "n", n)
        self.seed = checks.integer("Shapes", "seed", seed, low=0, high=2**64 - 1)
        self.image_size = checks.integer("Shapes", "image_size", image_size, low=16, high=UNITS)
        self._ways = checks.integer("Shapes", "captions", captions, low=1, high=WAYS)
        unseen = checks.integer("Shapes", "unseen", unseen, low=0, high=len(THINGS) - 1)
        order = np.argsort(draws.raw(len(THINGS), draws.UNSEEN, self.seed, 0), kind="stable")
        self.unseen = tuple(THINGS[place] for place in sorted(order[:unseen]))
        self._seen = tuple(thing for thing in THINGS if thing not in self.unseen)
        self.parts = ("train", "valid", "test") + (("unseen",) if unseen else ())

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return f"Shapes({self.n}, {self.seed}, image_size={self.image_size})"

    def name(self, index: int) -> str:
        return f"shapes {self._check_index(index)}"

    def indices(self, part: str) -> np.ndarray:
        self._check_part(part)
        held_out = [_PLACE[name] for name in self.parts if name != "train"]
        place = np.arange(self.n) % _PERIOD
        return np.flatnonzero(~np.isin(place, held_out) if part == "train" else place == _PLACE[part])

    def scene(self, index: int) -> Scene:
        """What stands in picture ``index``."""
        return self._drawn(self._check_index(index))[0]

    def captions(self, index: int) -> tuple[str, ...]:
        """Its captions, the canonical one first."""
        return self.scene(index).captions()[: self._ways]

    def says(self, index: int, caption: str) -> bool:
        """Whether ``caption`` tells of exactly this scene, in any of the ways of the grammar."""
        return parse_caption(caption) == self.scene(index)

    def image(self, index: int) -> np.ndarray:
        """uint8 (image_size, image_size, 3)."""
        number = self._check_index(index)
        scene, rest = self._drawn(number)
        side = self.image_size
        ground = 200 + next(rest) % 32
        image = np.empty((side, side, 3), np.int64)
        image[:] = [ground + next(rest) % 16 for _ in range(3)]
        low, high, along, across = _ROOM[len(scene.things)]
        stray = (along if "row" in scene.kind else across, along if "column" in scene.kind else across)
        for (colour, shape), middle in zip(scene.things, _LAYOUTS[scene.kind][1], strict=True):
            x, y = (at + _PLACES * (next(rest) % (2 * by + 1) - by) for at, by in zip(middle, stray, strict=True))
            size = low + _REACHES * (next(rest) % ((high - low) // _REACHES + 1))
            shade = tuple(part + next(rest) % (2 * _SHADE + 1) - _SHADE for part in COLOURS[colour])
            draw(image, shape, shade, x, y, size)
        words = draws.raw(-(-image.size // 8), draws.NOISE, self.seed, number)
        noise = words.astype("<u8").view(np.uint8)[: image.size].reshape(image.shape) % (2 * _NOISE + 1)
        return np.clip(image + noise - _NOISE, 0, 255).astype(np.uint8)

    def fingerprint(self) -> dict[str, Any]:
        return {
            "kind": "shapes",
            "n": self.n,
            "seed": self.seed,
            "image_size": self.image_size,
            "captions": self._ways,
            "unseen": len(self.unseen),
        }

    def _drawn(self, number: int):
        """The scene of a picture, and the numbers that are left to draw it with."""
        words = iter([int(word) for word in draws.raw(40, draws.SCENE, self.seed, number)])
        kind = _DECK[next(words) % len(_DECK)]
        count = len(_LAYOUTS[kind][1])
        things = [self._seen[next(words) % len(self._seen)] for _ in range(count)]
        if self.unseen and number % _PERIOD == _PLACE["unseen"]:
            things[next(words) % count] = self.unseen[next(words) % len(self.unseen)]
        return Scene(kind, tuple(things)), words
