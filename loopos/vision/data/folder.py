"""``CaptionFolder``: a folder of pictures and captions, as Flickr8k, Flickr30k and COCO come."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks

from .captions import HELD_OUT, Row, read_captions
from .decoding import SUFFIXES, PictureError, decode, decode_square
from .framing import Augment
from .kept import MEMORY, Keeping, Kept
from .left_out import LeftOut
from .parts import Pictures, chosen, digest, part_of

_CAPTION_FILES = (  # the first kind of which a folder has a file; of JSON all files together
    r".*captions.*\.json|dataset_.*\.json",
    r"captions\.(txt|csv|tsv)",
    r"results\.csv",
    r".*\.token(\.txt)?",
)
_LISTS = {"train": r".*train_?images.*\.txt", "valid": r".*(dev|val)_?images.*\.txt", "test": r".*test_?images.*\.txt"}


class CaptionFolder(Pictures):
    """A folder with pictures and a file of captions, as people have them.

    Flickr8k: ``Images/`` and ``captions.txt`` (image,caption), or ``Flickr8k.token.txt`` with its lists
    (``Flickr_8k.trainImages.txt`` and so on); Flickr30k: ``results.csv`` or ``captions.txt``; COCO:
    ``annotations/captions_train2017.json``; Karpathy's ``dataset_flickr8k.json``. Where the pictures lie inside the
    folder, and the case of their names, does not matter.

    path        the folder, or a file of captions in it
    subset      so many pictures, chosen by ``seed``; all, where there are no more
    image_size  side of what a training sees
    memory      bytes of decoded pictures that are kept in memory; more of them are decoded again each time
    cache       a folder where decoded pictures are kept instead, for the next time too
    workers     threads that decode
    shown       what the bar of the first decoding is made with (``tqdm.tqdm``)

    A picture with all its captions is in one part: the lists or the file say which (one that no list names is left
    out), else a digest of its name does: a tenth each ``valid`` and ``test``, the same ones whatever else is there.

    ``left_out`` says what is not used: print it, or take ``left_out.to_dict()``. Pictures that cannot be decoded are
    added to it when they are first decoded."""

    mirrored = True
    augment = Augment()
    sound = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        subset: int | None = None,
        seed: int = 1337,
        *,
        image_size: int = 224,
        memory: int = MEMORY,
        cache: str | os.PathLike[str] | None = None,
        workers: int = 2,
        shown: Callable[..., Any] | None = None,
    ):
        where = "CaptionFolder"
        self.path, self.left_out = Path(path), LeftOut()
        self.seed = checks.integer(where, "seed", seed, low=0, high=2**64 - 1)
        self.image_size = checks.integer(where, "image_size", image_size, low=1, high=4096)
        self.keeping = Keeping(
            checks.integer(where, "memory", memory, low=0),
            None if cache is None else Path(cache),
            checks.integer(where, "workers", workers, low=1, high=64),
            shown,
        )
        files, root = _caption_files(self.path)
        rows = [row for file in files for row in read_captions(file, self.left_out)]
        named = _parts_of_lists(root)
        self._entries = _entries(rows, named, _Images(root), self.left_out, self.path)
        if subset is not None:
            self._entries = chosen(self._entries, checks.count(where, "subset", subset), self.seed)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"CaptionFolder({str(self.path)!r})"

    def name(self, index: int) -> str:
        return self._entries[self._check_index(index)][0]

    def file(self, index: int) -> Path:
        """The file of a picture."""
        return self._entries[self._check_index(index)][1]

    def captions(self, index: int) -> tuple[str, ...]:
        return self._entries[self._check_index(index)][3]

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3), of its own size; PictureError of a broken file."""
        return decode(self.file(index), self.name(index))

    def square(self, index: int, side: int) -> np.ndarray:
        return decode_square(self.file(index), side, self.name(index))

    def kept(self, side: int) -> Kept:
        known = side in self.__dict__.get("_kept", {})
        found = super().kept(side)
        if not known:
            for number, why in found.broken.items():
                if number not in self.__dict__.setdefault("_told", set()):
                    self.left_out.add("pictures that cannot be decoded", str(PictureError(self.name(number), why)))
                    self.__dict__["_told"].add(number)
        return found

    def indices(self, part: str) -> np.ndarray:
        self._check_part(part)
        return np.array([n for n, entry in enumerate(self._entries) if entry[2] == part], np.int64)

    def fingerprint(self) -> dict[str, Any]:
        """Names, parts, captions and sizes of the files in one digest."""
        told = [(name, part, captions, _stat(path)[0]) for name, path, part, captions in self._entries]
        return {"kind": "folder", "count": len(self), "sha256": hashlib.sha256(repr(told).encode()).hexdigest()}

    def cache_key(self) -> dict[str, Any]:
        """With the dates of the files: a picture that was replaced is decoded again."""
        return self.fingerprint() | {"dates": [_stat(entry[1])[1] for entry in self._entries]}


def _stat(path: Path) -> tuple[int, int]:
    """Size and date of a file; (-1, -1) where it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _walk(root: Path) -> list[Path]:
    """The files of a folder, folders in it included, in the order of depth and name; hidden ones left out."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    return sorted(found, key=lambda path: (len(path.parts), str(path)))


def _caption_files(path: Path) -> tuple[list[Path], Path]:
    """The files of captions, and the folder where pictures are looked for."""
    if path.is_file():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        return [path], root
    if not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, "CaptionFolder: no such folder", str(path))
    files = [file for file in _walk(path) if file.suffix.lower() not in SUFFIXES]
    for pattern in _CAPTION_FILES:
        if found := [file for file in files if re.fullmatch(pattern, file.name, re.I)]:
            return (found if found[0].suffix.lower() == ".json" else found[:1]), path
    raise ValueError(
        f"CaptionFolder: {path} has no file of captions: expected captions.txt, results.csv, Flickr8k.token.txt or "
        "annotations/captions_*.json; name another one itself"
    )


def has_captions(path: Path) -> bool:
    """Whether a folder holds a file of captions under one of the names that are known."""
    return any(re.fullmatch(pattern, file.name, re.I) for file in _walk(path) for pattern in _CAPTION_FILES)


def _parts_of_lists(root: Path) -> dict[str, str]:
    """The part of each picture that a list beside the captions names; empty without lists."""
    named: dict[str, str] = {}
    for file in _walk(root):
        for part, pattern in _LISTS.items():
            if re.fullmatch(pattern, file.name, re.I):
                for line in file.read_text("utf-8-sig", errors="replace").split():
                    if named.setdefault(line.lower(), part) != part:
                        raise ValueError(f"CaptionFolder: {line} stands in two lists: {named[line.lower()]} and {part}")
    return named


class _Images:
    """The picture files of a folder by name."""

    def __init__(self, root: Path):
        self.root, self.used = root, set[Path]()
        self.files = [path for path in _walk(root) if path.suffix.lower() in SUFFIXES]
        self._exact: dict[str, list[Path]] = {}
        self._lower: dict[str, list[Path]] = {}
        for path in self.files:
            self._exact.setdefault(path.name, []).append(path)
            self._lower.setdefault(path.name.lower(), []).append(path)

    def find(self, name: str, left_out: LeftOut) -> Path | None:
        """The file that a row names; None where there is none."""
        plain = name.replace("\\", "/")
        base = plain.rsplit("/", 1)[-1]
        found = self._exact.get(base)
        if found is None and (found := self._lower.get(base.lower())) is not None:
            left_out.add("pictures found under a name of another case", name)
        if found is None:
            return None
        if len(found) > 1:
            nearer = [path for path in found if path.as_posix().endswith("/" + plain)]
            if len(nearer) != 1:
                left_out.add("names that several files have, the first of which is taken", name)
            found = nearer or found
        self.used.add(found[0])
        return found[0]


_Entry = tuple[str, Path, str, tuple[str, ...]]  # name, file, part, captions


def _entries(rows: list[Row], named: dict[str, str], images: _Images, left_out: LeftOut, path: Path) -> list[_Entry]:
    """The pictures that are there and have a caption and a part, by name."""
    told: dict[str, list[Row]] = {}
    for row in rows:
        told.setdefault(row.image, []).append(row)
    whole = any(row.part == "train" for row in rows)  # val of COCO alone is a set like any other
    together: dict[Path, tuple[str, list[str]]] = {}
    for name, each in told.items():
        file = images.find(name, left_out)
        if file is None:
            left_out.add("names with captions and without a picture", name)
        elif (part := _part(file.name, each[0].part, named, whole)) is None:
            left_out.add("pictures that no list of parts names", name)
        else:
            together.setdefault(file, (part, []))[1].extend(row.caption for row in each)
    entries = [(file.name, file, part, tuple(captions)) for file, (part, captions) in together.items()]
    for unused in images.files:
        if unused not in images.used:
            left_out.add("pictures without a caption", unused.name)
    if not entries:
        raise ValueError(f"CaptionFolder: {path} has no picture with a caption.\n{left_out}".rstrip())
    return sorted(entries)


def _part(name: str, told: str | None, named: dict[str, str], whole: bool) -> str | None:
    if named:
        return named.get(name.lower())
    if told == HELD_OUT:
        told = ("valid", "test")[digest(name) % 2] if whole else None
    return told or part_of(name)
