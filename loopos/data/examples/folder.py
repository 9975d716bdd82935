"""A folder of examples: files named train, valid and test, as mlx-lm and trl have them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from .records import SUFFIXES

_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "test": "test"}
_NAME = re.compile(rf"({'|'.join(_SPLITS)})(?:-(\d+)-of-(\d+))?({'|'.join(map(re.escape, SUFFIXES))})", re.I)


class Splits(NamedTuple):
    """Files of each part, in order; empty where there is none."""

    train: tuple[Path, ...]
    valid: tuple[Path, ...]
    test: tuple[Path, ...]


def splits(folder: Path) -> Splits | None:
    """The parts of a folder, or of ``data`` in it; None of a folder that has no file of such a name.

    A part is one file (train.jsonl) or all of its pieces (train-00000-of-00002.parquet); more than one, or a piece
    missing, or no train: ValueError."""
    for place in (folder, folder / "data"):
        if place.is_dir() and (found := _found(place)):
            if "train" not in found:
                raise ValueError(f"{folder}: expected a file train.jsonl beside {found.popitem()[1][0].name}, got none")
            return Splits(*(tuple(found.get(part, ())) for part in ("train", "valid", "test")))
    return None


def _found(place: Path) -> dict[str, list[Path]]:
    found: dict[str, dict[tuple[str, int], list[tuple[int, Path]]]] = {}
    for path in sorted(place.iterdir()):
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            kind = (f"{match[1].lower()}*{match[4].lower()}", int(match[3] or 1))
            found.setdefault(_SPLITS[match[1].lower()], {}).setdefault(kind, []).append((int(match[2] or 0), path))
    return {part: _whole(kinds, part, place) for part, kinds in found.items()}


def _whole(kinds: dict[tuple[str, int], list[tuple[int, Path]]], part: str, place: Path) -> list[Path]:
    """The files of one part, of which there must be one kind and every piece."""
    if len(kinds) > 1:
        names = ", ".join(files[0][1].name for files in kinds.values())
        raise ValueError(f"{place}: expected one file of {part} examples, got {names}; which is meant?")
    [((_, pieces), files)] = kinds.items()
    numbers = [number for number, _ in files]
    if numbers != list(range(pieces)):
        missing = sorted(set(range(pieces)) - set(numbers))
        raise ValueError(f"{place}: expected {pieces} pieces of {part} examples, got {len(files)}; missing: {missing}")
    return [path for _, path in files]
