"""Sets of pictures, and their parts: what is trained on and what is held out, by picture and never by caption."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from loopos import checks

from .decoding import framed
from .framing import NONE, Augment
from .kept import Keeping, Kept, keep


def digest(text: str) -> int:
    """Of a name: 64 bits that are the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def part_of(name: str) -> str:
    """The part of a picture that no list names: of ten, one is valid and one test, whatever else is there."""
    return {8: "valid", 9: "test"}.get(digest(name) % 10, "train")


def chosen(entries: list, subset: int | None, seed: int) -> list:
    """So many of the entries, whose first field is a name; all, where there are no more."""
    return sorted(sorted(entries, key=lambda entry: digest(f"{seed}:{entry[0]}"))[:subset])


class Pictures(ABC):
    """A set of pictures with captions. What gives pictures to a training is one of these."""

    parts: tuple[str, ...] = ("train", "valid", "test")
    image_size: int  # the side that a training sees, unless it is told another
    mirrored = False  # whether a mirrored picture is one of the same kind
    augment: Augment = NONE  # what training varies, unless it is told otherwise
    sound = True  # no picture can be broken
    keeping = Keeping()

    @abstractmethod
    def __len__(self) -> int:
        """Pictures of all parts."""

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """Picture ``index``: uint8 (H, W, 3), red, green, blue. H and W may differ from picture to picture."""

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """Its captions, at least one."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What a message calls it."""

    @abstractmethod
    def indices(self, part: str) -> np.ndarray:
        """int64: the pictures of one of ``parts``, in rising order. ValueError for another name."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint keeps to know the set again: JSON-safe."""

    def cache_key(self) -> dict[str, Any]:
        """What tells cached pictures from others."""
        return self.fingerprint()

    def square(self, index: int, side: int) -> np.ndarray:
        """uint8 (side, side, 3): the middle square of picture ``index``. PictureError of one that is broken."""
        return framed(self.image(index), side)

    def kept(self, side: int) -> Kept:
        """All squares of that side, decoded once and kept for every part; see ``keeping``."""
        if (found := self.__dict__.setdefault("_kept", {}).get(side)) is None:
            keeping, about = self.keeping, self.cache_key()
            found = keep(len(self), side, lambda i: self.square(i, side), about, keeping, sound=self.sound)
            self.__dict__["_kept"][side] = found
        return found

    def part(self, part: str) -> Part:
        """One of ``parts`` as a set of its own."""
        return Part(self, part, self.indices(part))

    def _check_part(self, part: str) -> str:
        return checks.choice(type(self).__name__, "part", part, self.parts)

    def _check_index(self, index: int) -> int:
        """``index`` as a number from 0; IndexError outside of the set."""
        number = checks.integer(type(self).__name__, "index", index)
        if not 0 <= number < len(self):
            raise IndexError(f"{type(self).__name__}: expected a picture from 0 to {len(self) - 1}, got {number}")
        return number


class Part:
    """Some pictures of a set, numbered from 0. ``numbers`` (N,) are their places in the set."""

    def __init__(self, pictures: Pictures, name: str, numbers: np.ndarray):
        self.pictures, self.part, self.numbers = pictures, name, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return self.pictures.image(int(self.numbers[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        return self.pictures.captions(int(self.numbers[index]))

    def name(self, index: int) -> str:
        return self.pictures.name(int(self.numbers[index]))

    def images(self) -> np.ndarray:
        """All of them in memory: uint8 (N, H, W, 3). ValueError where they are not all of one size."""
        images = [self.image(index) for index in range(len(self))]
        if len(sizes := {image.shape for image in images}) > 1:
            raise ValueError(f"images: expected pictures of one size, got {sorted(sizes)[:3]}; bring them to one first")
        return np.stack(images) if images else np.zeros((0, 0, 0, 3), np.uint8)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): the classes of its pictures, of a set that has some; else AttributeError."""
        return self.pictures.labels[self.numbers]  # type: ignore[attr-defined]

    def fingerprint(self) -> dict[str, Any]:
        return self.pictures.fingerprint() | {"part": self.part, "pictures": len(self)}

    def __repr__(self) -> str:
        return f"<{len(self)} pictures: {self.part} of {self.pictures!r}>"
