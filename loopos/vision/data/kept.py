"""The pictures of a set as squares of one size, decoded once: in memory, in a file, or made again each time."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos.errors import CheckpointError
from loopos.files import durable

from .ahead import mapped
from .decoding import PictureError

MEMORY = 1 << 30  # bytes of squares that are kept in memory


class Kept(NamedTuple):
    """square(number): uint8 (side, side, 3) of the picture of that number in its set. broken: why, by number."""

    side: int
    square: Callable[[int], np.ndarray]
    broken: dict[int, str]
    where: str  # "memory", "file" or "nowhere"


class Keeping(NamedTuple):
    """Where squares are kept. memory: bytes that may be used; cache: a folder, used whatever the size; workers: threads
    that decode; shown: what a bar is made with, ``tqdm`` or what takes an iterable and total=."""

    memory: int = MEMORY
    cache: Path | None = None
    workers: int = 2
    shown: Callable[..., Any] | None = None


def keep(
    count: int,
    side: int,
    square: Callable[[int], np.ndarray],
    about: dict[str, Any],
    keeping: Keeping,
    *,
    sound: bool = False,
) -> Kept:
    """The squares of pictures 0..count-1. square(number) makes one or raises PictureError; about: what tells this set
    and these settings from others, JSON-safe; sound: none can be broken.

    Each is made once here, by threads, so that broken ones are known before training. OSError where the cache cannot
    be written."""
    if keeping.cache is not None:
        return _in_file(count, side, square, about, keeping)
    if count * side * side * 3 <= keeping.memory:
        squares = np.empty((count, side, side, 3), np.uint8)
        broken = _fill(count, square, keeping, squares.__setitem__)
        return Kept(side, squares.__getitem__, broken, "memory")
    return Kept(side, square, {} if sound else _fill(count, square, keeping, lambda number, made: None), "nowhere")


def _each(count: int, square: Callable[[int], np.ndarray], keeping: Keeping) -> Iterator[np.ndarray | str]:
    def one(number: int) -> np.ndarray | str:
        try:
            return square(number)
        except PictureError as error:
            return error.reason

    made = mapped(one, range(count), keeping.workers)
    return iter(made if keeping.shown is None else keeping.shown(made, total=count))


def _fill(count: int, square: Callable, keeping: Keeping, put: Callable[[int, np.ndarray], None]) -> dict[int, str]:
    broken: dict[int, str] = {}
    for number, made in enumerate(_each(count, square, keeping)):
        if isinstance(made, str):
            broken[number] = made
        else:
            put(number, made)
    return broken


def _in_file(count: int, side: int, square: Callable, about: dict[str, Any], keeping: Keeping) -> Kept:
    assert keeping.cache is not None
    key = hashlib.sha256(json.dumps([about, side, count], sort_keys=True).encode()).hexdigest()[:24]
    path = keeping.cache / f"squares-{key}.npy"
    notes = path.with_suffix(".json")
    found = _read(path, notes, (count, side, side, 3))
    if found is None:
        durable.make_folder(keeping.cache)
        broken: dict[int, str] = {}
        durable.write_bytes(path, _contents(count, side, square, keeping, broken))
        durable.write_json(notes, {"broken": {str(number): why for number, why in broken.items()}})
        found = _read(path, notes, (count, side, side, 3))
    if found is None:
        raise OSError(f"{path}: the cache of pictures cannot be read back; remove it, or give another folder")
    return Kept(side, found[0].__getitem__, found[1], "file")


def _contents(count: int, side: int, square: Callable, keeping: Keeping, broken: dict[int, str]) -> Iterator[bytes]:
    """A .npy file of the squares, piece by piece; zeros where a picture is broken, which is noted in ``broken``."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
    np.lib.format.write_array_header_1_0(header, shape)
    yield header.getvalue()
    for number, made in enumerate(_each(count, square, keeping)):
        if isinstance(made, str):
            broken[number] = made
            made = np.zeros((side, side, 3), np.uint8)
        yield made.tobytes()


def _read(path: Path, notes: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, dict[int, str]] | None:
    """The squares and what is broken, of a file that is whole; else None, and it is made again."""
    try:
        squares = np.load(path, mmap_mode="r", allow_pickle=False)
        told = durable.load_json(notes)
        broken = {int(number): str(why) for number, why in told["broken"].items()}
    except (OSError, ValueError, CheckpointError, TypeError, KeyError, AttributeError):
        return None
    if not isinstance(squares, np.ndarray) or squares.shape != shape or squares.dtype != np.uint8:
        return None
    return squares, broken
