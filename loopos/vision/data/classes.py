"""``ClassFolder``: pictures in a folder for each class."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from loopos import _core, checks

from .ahead import mapped
from .decoding import SUFFIXES, PictureError, decode_square
from .framing import Augment
from .left_out import LeftOut
from .parts import Pictures, chosen, part_of

_PARTS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}


class ClassFolder(Pictures):
    """A folder with a folder of pictures for each class, whose name is the class; or folders ``train``, ``valid`` (or
    ``val``) and ``test`` with such folders in each, as torchvision's ImageFolder has them.

    path        the folder
    image_size  side: of each picture the middle square is kept, brought to it
    subset      so many pictures, chosen by ``seed``; all, where there are no more; the classes stay those of the folder
    workers     threads that decode

    Without folders of parts a digest of a picture's name decides: a tenth each is ``valid`` and ``test``. ``classes``
    are the names in order, ``labels`` (N,) the number of each picture's. Files that cannot be decoded are left out, and
    stand in ``left_out``. Training turns, stretches, slants and shifts pictures a little (``augment``); none is
    mirrored, which may be another class. ValueError for fewer than two classes; MemoryError where the squares do not
    fit."""

    augment = Augment(crop=False, flip=False, warp=0.1)

    def __init__(
        self,
        path: str | os.PathLike[str],
        image_size: int = 64,
        subset: int | None = None,
        seed: int = 1337,
        *,
        workers: int = 2,
    ):
        self.path, self.left_out = Path(path), LeftOut()
        self.image_size = checks.integer("ClassFolder", "image_size", image_size, low=1, high=4096)
        if not self.path.is_dir():
            raise FileNotFoundError(errno.ENOENT, "ClassFolder: no such folder", str(self.path))
        entries = _entries(self.path)
        self.classes = tuple(sorted({kind for _, _, kind, _ in entries}))
        if len(self.classes) < 2:
            raise ValueError(
                f"ClassFolder: {self.path} has pictures of {len(self.classes)} classes; expected a folder of pictures "
                "for each of two or more, or train/ and test/ with such folders"
            )
        if subset is not None:
            entries = chosen(entries, checks.count("ClassFolder", "subset", subset), seed)
        self._entries, self._squares = self._decoded(entries, checks.count("ClassFolder", "workers", workers))
        self.labels = np.array([self.classes.index(kind) for _, _, kind, _ in self._entries], np.int64)

    def _decoded(self, entries: list[tuple[str, Path, str, str]], workers: int) -> tuple[list, np.ndarray]:
        side = self.image_size
        size, available = len(entries) * side * side * 3, _core.available_bytes()
        if size > available:
            raise MemoryError(
                f"ClassFolder: {len(entries)} pictures of {side} x {side} take {size} bytes, and {available:.0f} bytes "
                "are available; a smaller image_size, or a subset"
            )

        def one(entry: tuple[str, Path, str, str]) -> np.ndarray | PictureError:
            try:
                return decode_square(entry[1], side, entry[0])
            except PictureError as error:
                return error

        squares, sound = np.empty((len(entries), side, side, 3), np.uint8), []
        for entry, made in zip(entries, mapped(one, entries, workers), strict=True):
            if isinstance(made, PictureError):
                self.left_out.add("pictures that cannot be decoded", str(made))
            else:
                squares[len(sound)] = made
                sound.append(entry)
        if not sound:
            raise ValueError(f"ClassFolder: {self.path} has no picture that can be decoded.\n{self.left_out}")
        return sound, squares[: len(sound)]

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"ClassFolder({str(self.path)!r})"

    def name(self, index: int) -> str:
        return self._entries[self._check_index(index)][0]

    def captions(self, index: int) -> tuple[str, ...]:
        """The name of its class."""
        return (self._entries[self._check_index(index)][2],)

    def image(self, index: int) -> np.ndarray:
        """uint8 (image_size, image_size, 3)."""
        return self._squares[self._check_index(index)]

    def indices(self, part: str) -> np.ndarray:
        self._check_part(part)
        return np.array([n for n, entry in enumerate(self._entries) if entry[3] == part], np.int64)

    def fingerprint(self) -> dict[str, Any]:
        told = hashlib.sha256(repr([(name, part) for name, _, _, part in self._entries]).encode())
        told.update(self._squares)
        return {"kind": "classes", "count": len(self), "sha256": told.hexdigest()}


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith((".", "__")))


def _entries(root: Path) -> list[tuple[str, Path, str, str]]:
    """(name, file, class, part) of each picture file, in order."""
    inside = _folders(root)
    parts = {each: _PARTS[each.name.lower()] for each in inside if each.name.lower() in _PARTS}
    divided = bool(parts) and len(parts) == len(inside)
    found = []
    for top, part in [*parts.items()] if divided else [(root, None)]:
        for kind in _folders(top):
            for file in sorted(kind.rglob("*")):
                if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
                    name = file.relative_to(root).as_posix()
                    found.append((name, file, kind.name, part or part_of(name)))
    return sorted(found)
