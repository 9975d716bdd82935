"""The tokens of a file of examples: made once, kept in a cache, mapped into memory when they are read.

A cache is a folder beside the file, ``<file>.loopos/<key>``; the key is a digest of the file's content, of the
tokenizer and of the version of what is here, so that a cache of other content or another tokenizer is never used. It is
written aside and renamed when it is whole, and each of its files is compared with its SHA-256 before it is used; one
that is damaged is made again. Where the folder of the file cannot be written, the cache is in ``$LOOPOS_CACHE_DIR``, by
default ``~/.cache/loopos``; where that cannot be either, in a temporary folder. Files that are small are not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos.errors import CheckpointError
from loopos.files import durable

from .encoding import Encoded

VERSION = 1
KEPT_FROM = 1 << 20  # bytes; a smaller file is turned into tokens in about a second
TOKENS, TABLE, ABOUT = "tokens.i32", "examples.bin", "about.json"
CACHE_DIR = "LOOPOS_CACHE_DIR"
HELD = 64 << 20  # bytes of the mapped file that may be in memory before they are given back
_ROW = np.dtype([("end", "<i8"), ("number", "<i8"), ("form", "u1"), ("cause", "u1")])  # of an example
_OPEN: weakref.WeakValueDictionary[tuple[str, str, str], Store] = weakref.WeakValueDictionary()  # by file and tokenizer
_CHUNK = 1 << 18  # tokens looked at together
_PAGE = 2 << 20  # bytes that the system may map where one is read


class Counts(NamedTuple):
    """Of each example, as far as it is used, (n,): tokens, those learned, those of them that another comes before, and
    whether the last one learned is the end-of-text token."""

    tokens: np.ndarray
    learned: np.ndarray
    predicted: np.ndarray
    ended: np.ndarray

    @staticmethod
    def none() -> Counts:
        return Counts(*(np.zeros(0, np.int64) for _ in range(3)), np.zeros(0, bool))


def _counted(piece: np.ndarray, bounds: np.ndarray, most: int, end: int | None) -> Counts:
    begins = bounds[:-1]
    ends = begins + np.minimum(np.diff(bounds), most)
    learned = piece >= 0
    sums = np.concatenate([[0], np.cumsum(learned)])
    count = sums[ends] - sums[begins]
    first = np.zeros(len(count), bool)
    some = ends > begins
    first[some] = learned[begins[some]]
    ended = np.zeros(len(count), bool)
    if end is not None and len(piece):
        latest = np.maximum.accumulate(np.where(learned, np.arange(len(piece)), -1))
        last = latest[ends[count > 0] - 1]
        ended[count > 0] = piece[last] == end
    return Counts(ends - begins, count, count - first, ended)


class Store:
    """Examples of one file, in its order. tokens (N,) int32: an id where it is learned, ~id where it is only read;
    table: where the tokens of each end, its line or row, form and cause."""

    def __init__(self, tokens: np.ndarray, table: np.ndarray, path: Path | None, digest: str):
        self.path, self.digest = path, digest
        self.starts = np.concatenate([[0], table["end"]])
        self.numbers, self.forms, self.causes = (np.ascontiguousarray(table[n]) for n in ("number", "form", "cause"))
        self._tokens, self._read = tokens, 0

    def __len__(self) -> int:
        return len(self.numbers)

    def tokens(self, example: int, most: int) -> np.ndarray:
        """The first ``most`` of an example, a copy."""
        start, end = int(self.starts[example]), int(self.starts[example + 1])
        piece = np.array(self._tokens[start : min(end, start + most)])
        self._read += piece.nbytes + _PAGE
        if self._read > HELD:
            self.release()
        return piece

    def release(self) -> None:
        """Pages of the mapped file that were read need not stay in memory; they are mapped again when asked for."""
        self._read = 0
        mapped = getattr(self._tokens, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def highest(self) -> tuple[int, int]:
        """(the highest id, the example that has it first); (-1, -1) of no tokens. In pieces."""
        found = -1, -1
        for start in range(0, len(self._tokens), _CHUNK):
            piece = np.array(self._tokens[start : start + _CHUNK])
            ids = np.where(piece >= 0, piece, ~piece)
            at = int(np.argmax(ids))
            if ids[at] > found[0]:
                found = int(ids[at]), start + at
            self.release()
        return found[0], int(np.searchsorted(self.starts, found[1], side="right")) - 1

    def counts(self, most: int, end: int | None) -> Counts:
        """Of the first ``most`` tokens of each example. end: the end-of-text token, if there is one. In pieces."""
        parts, first = [], 0
        while first < len(self):
            start = int(self.starts[first])
            last = int(np.searchsorted(self.starts, start + _CHUNK, side="right")) - 1
            last = min(max(last, first + 1), len(self))
            piece = np.array(self._tokens[start : int(self.starts[last])])
            parts.append(_counted(piece, self.starts[first : last + 1] - start, most, end))
            self.release()
            first = last
        return Counts(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) if parts else Counts.none()


def of_examples(encoded: Iterable[Encoded], digest: str) -> Store:
    """In memory."""
    found = list(encoded)
    tokens = np.concatenate([np.zeros(0, np.int32), *(each.tokens for each in found)])
    return Store(tokens, _table(found, 0), None, digest)


def of_file(
    path: Path, tokenizer: str | None, encoded: Callable[[], Iterator[Encoded]], *, kept_from: int | None = None
) -> Store:
    """Of ``path``, out of its cache, or by ``encoded``, which is then kept. tokenizer: its digest,
    without which nothing is kept; kept_from: the size of files from which on they are. A store that is open is given
    again."""
    digest = durable.sha256(path)
    known = str(path.absolute()), digest, tokenizer
    if tokenizer is None or (store := _OPEN.get(known)) is None:
        store = _found(path, digest, tokenizer, encoded, kept_from)
        if tokenizer is not None:
            _OPEN[known] = store
    return store


def _found(
    path: Path, digest: str, tokenizer: str | None, encoded: Callable[[], Iterator[Encoded]], kept_from: int | None
) -> Store:
    if path.stat().st_size < (KEPT_FROM if kept_from is None else kept_from):
        store = of_examples(encoded(), digest)
        store.path = path
        return store
    if tokenizer is None:
        return _passing(path, digest, encoded())
    key = hashlib.sha256(f"{VERSION}\0{digest}\0{tokenizer}".encode()).hexdigest()[:24]
    places = _places(path, key)
    for place in places:
        if (store := _opened(place, path, digest)) is not None:
            return store
    for place in places:
        try:
            durable.make_folder(place.parent)
            aside = durable.beside(place, "tmp")
            os.mkdir(aside)
        except OSError:  # read-only, or no such home
            continue
        return _made(aside, place, path, digest, encoded())
    return _passing(path, digest, encoded())


def _passing(path: Path, digest: str, encoded: Iterator[Encoded]) -> Store:
    """In a temporary folder, which goes with the store."""
    folder = Path(tempfile.mkdtemp(prefix="loopos-"))
    try:
        store = _made(folder / "tmp", folder / "cache", path, digest, encoded)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
    return store


def _places(path: Path, key: str) -> list[Path]:
    given = os.environ.get(CACHE_DIR)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [path.with_name(f"{path.name}.loopos") / key, Path(given or os.path.join(home, "loopos")) / key]


def _made(aside: Path, place: Path, path: Path, digest: str, encoded: Iterator[Encoded]) -> Store:
    """Write into ``aside``, rename to ``place``, open that."""
    try:
        os.makedirs(aside, exist_ok=True)
        files = _write(aside, encoded)
        durable.create(aside / ABOUT, durable.dump_json({"version": VERSION, "source": path.name, "files": files}))
        durable.sync_folder(aside)
        if place.exists():  # damaged, or made by another process in the meantime
            durable.remove(place)
        with durable.explained("put the finished cache in its place", place):
            os.rename(aside, place)
        durable.sync_folder(place.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    store = _opened(place, path, digest)
    if store is None:
        raise CheckpointError(place, "the cache that was just written cannot be read again")
    return store


def _write(folder: Path, encoded: Iterator[Encoded]) -> dict[str, Any]:
    """Both files, group by group, and {name: {"bytes", "sha256"}}."""
    done, group, size = 0, [], 0
    digests = {TOKENS: hashlib.sha256(), TABLE: hashlib.sha256()}
    sizes = dict.fromkeys(digests, 0)
    with contextlib.ExitStack() as stack, durable.explained("write the cache", folder):
        files = {name: stack.enter_context((folder / name).open("wb", buffering=0)) for name in digests}

        def flush() -> None:
            nonlocal done, group, size
            if not group:
                return
            for name, part in (
                (TOKENS, np.concatenate([each.tokens for each in group]).astype("<i4").tobytes()),
                (TABLE, _table(group, done).tobytes()),
            ):
                digests[name].update(part)
                sizes[name] += len(part)
                view = memoryview(part)
                while view:
                    view = view[files[name].write(view) :]
            done, group, size = done + size, [], 0

        for each in encoded:
            group.append(each)
            size += len(each.tokens)
            if size >= _CHUNK:
                flush()
        flush()
        for file in files.values():
            os.fsync(file.fileno())
    return {name: {"bytes": sizes[name], "sha256": digests[name].hexdigest()} for name in digests}


def _table(group: list[Encoded], before: int) -> np.ndarray:
    table = np.zeros(len(group), _ROW)
    table["end"] = before + np.cumsum([len(each.tokens) for each in group], dtype=np.int64)
    for name in ("number", "form", "cause"):
        table[name] = [getattr(each, name) for each in group]
    return table


def _opened(place: Path, path: Path, digest: str) -> Store | None:
    """None when there is no cache, or with a UserWarning a damaged one."""
    if not place.is_dir():
        return None
    try:
        about = durable.load_json(place / ABOUT)
        for name in (TOKENS, TABLE):
            found = {"bytes": (place / name).stat().st_size, "sha256": durable.sha256(place / name)}
            if about["files"][name] != found:
                raise ValueError(f"{name} is not what was written")
        table = np.fromfile(place / TABLE, _ROW)
        count = about["files"][TOKENS]["bytes"] // 4
        tokens: np.ndarray = np.memmap(place / TOKENS, np.int32, "r", shape=count) if count else np.zeros(0, np.int32)
        if len(table) and int(table["end"][-1]) != count:
            raise ValueError(f"{TABLE} and {TOKENS} are not of one making")
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        warnings.warn(f"{path}: its cache {place} is damaged and is made again: {error}", UserWarning, stacklevel=4)
        return None
    return Store(tokens, table, path, digest)
