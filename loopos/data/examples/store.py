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
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from loopos.data.token_file import give_back
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
    table: where the tokens of each end, its line or row, form and cause; folder: of the cache that is mapped."""

    def __init__(
        self, tokens: np.ndarray, table: np.ndarray, path: Path | None, digest: str, folder: Path | None = None
    ):
        self.path, self.digest = path, digest
        self.starts = np.concatenate([[0], table["end"]])
        self.numbers, self.forms, self.causes = (np.ascontiguousarray(table[n]) for n in ("number", "form", "cause"))
        self._tokens, self._read, self.folder = tokens, 0, folder

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

    @property
    def whole(self) -> np.ndarray:
        """The tokens of all examples, one after another (N,): mapped, where they are."""
        return self._tokens

    def release(self) -> None:
        """Pages of the mapped file that were read need not stay in memory; they are mapped again when asked for."""
        self._read = 0
        give_back(self._tokens)

    def highest(self, first: int = 0, last: int | None = None) -> tuple[int, int]:
        """(the highest id, the example that has it first) of the examples from ``first`` to ``last``; (-1, -1) of no
        tokens. In pieces."""
        found = -1, -1
        end = int(self.starts[len(self) if last is None else last])
        for start in range(int(self.starts[first]), end, _CHUNK):
            piece = np.array(self._tokens[start : min(end, start + _CHUNK)])
            ids = np.where(piece >= 0, piece, ~piece)
            at = int(np.argmax(ids))
            if ids[at] > found[0]:
                found = int(ids[at]), start + at
            self.release()
        return found[0], int(np.searchsorted(self.starts, found[1], side="right")) - 1

    def counts(self, most: int, end: int | None, first: int = 0, stop: int | None = None) -> Counts:
        """Of the first ``most`` tokens of each example from ``first`` to ``stop``. end: the end-of-text token, if there
        is one. In pieces."""
        parts, stop = [], len(self) if stop is None else stop
        while first < stop:
            start = int(self.starts[first])
            last = int(np.searchsorted(self.starts, start + _CHUNK, side="right")) - 1
            last = min(max(last, first + 1), stop)
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
    if (store := already_open(path, digest, tokenizer)) is not None:
        return store
    if path.stat().st_size < (KEPT_FROM if kept_from is None else kept_from):
        store = of_examples(encoded(), digest)
        store.path = path
    else:
        begun = begin(path, digest, tokenizer)
        store = begun if isinstance(begun, Store) else begun.made(lambda: write(begun.aside, encoded()))
    return stays_open(store, path, tokenizer)


def already_open(path: Path, digest: str, tokenizer: str | None) -> Store | None:
    """The store of this content, where it is open."""
    return None if tokenizer is None else _OPEN.get((str(path.absolute()), digest, tokenizer))


def stays_open(store: Store, path: Path, tokenizer: str | None) -> Store:
    """For :func:`already_open`, as long as somebody has it."""
    if tokenizer is not None:
        _OPEN[str(path.absolute()), store.digest, tokenizer] = store
    return store


class Making(NamedTuple):
    """A cache that is to be: of ``path``, whose digest is ``digest``, written into ``aside`` and renamed to ``place``;
    passing: a temporary folder with both, which goes with the store."""

    path: Path
    digest: str
    aside: Path
    place: Path
    passing: Path | None = None

    def made(self, write: Callable[[], Files]) -> Store:
        """``write`` makes the files in ``aside``; what is not finished is taken away."""
        try:
            os.makedirs(self.aside, exist_ok=True)
            store = self._finished(write())
        except BaseException:
            shutil.rmtree(self.passing or self.aside, ignore_errors=True)
            raise
        if self.passing is not None:
            weakref.finalize(store, shutil.rmtree, self.passing, ignore_errors=True)
        return store

    def _finished(self, files: Files) -> Store:
        told = {name: {"bytes": file.size, "sha256": file.digest.hexdigest()} for name, file in files.items()}
        durable.create(
            self.aside / ABOUT, durable.dump_json({"version": VERSION, "source": self.path.name, "files": told})
        )
        durable.sync_folder(self.aside)
        with durable.explained("put the finished cache in its place", self.place):
            try:
                os.rename(self.aside, self.place)
            except OSError:  # there is one: damaged, or made by another process in the meantime
                if (store := opened(self.place, self.path, self.digest, warn=False)) is not None:
                    shutil.rmtree(self.aside, ignore_errors=True)
                    return store
                durable.remove(self.place)
                os.rename(self.aside, self.place)
        durable.sync_folder(self.place.parent)
        store = opened(self.place, self.path, self.digest)
        if store is None:
            raise CheckpointError(self.place, "the cache that was just written cannot be read again")
        return store


def begin(path: Path, digest: str, tokenizer: str | None) -> Store | Making:
    """The store out of a cache, or what it takes to make one."""
    key = hashlib.sha256(f"{VERSION}\0{digest}\0{tokenizer}".encode()).hexdigest()[:24]
    places = [] if tokenizer is None else _places(path, key)
    for place in places:
        if (store := opened(place, path, digest)) is not None:
            return store
    for place in places:
        try:
            durable.make_folder(place.parent)
            aside = durable.beside(place, "tmp")
            os.mkdir(aside)
        except OSError:  # read-only, or no such home
            continue
        return Making(path, digest, aside, place)
    folder = Path(tempfile.mkdtemp(prefix="loopos-"))
    return Making(path, digest, folder / "tmp", folder / "cache", folder)


def _places(path: Path, key: str) -> list[Path]:
    given = os.environ.get(CACHE_DIR)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [path.with_name(f"{path.name}.loopos") / key, Path(given or os.path.join(home, "loopos")) / key]


class Written:
    """A file of a cache while it is written: its bytes and their digest so far."""

    def __init__(self, path: Path):
        self.path, self.size, self.digest = path, 0, hashlib.sha256()

    def add(self, file: BinaryIO, part: bytes | memoryview) -> None:
        self.digest.update(part)
        self.size += len(part)
        view = memoryview(part)
        while view:
            view = view[file.write(view) :]


Files = dict[str, Written]


def write(folder: Path, encoded: Iterator[Encoded]) -> Files:
    """Both files, group by group."""
    done, group, size = 0, [], 0
    written = {name: Written(folder / name) for name in (TOKENS, TABLE)}
    with contextlib.ExitStack() as stack, durable.explained("write the cache", folder):
        files = {name: stack.enter_context(each.path.open("wb", buffering=0)) for name, each in written.items()}

        def flush() -> None:
            nonlocal done, group, size
            if not group:
                return
            for name, part in (
                (TOKENS, np.concatenate([each.tokens for each in group]).astype("<i4").tobytes()),
                (TABLE, _table(group, done).tobytes()),
            ):
                written[name].add(files[name], part)
            done, group, size = done + size, [], 0

        for each in encoded:
            group.append(each)
            size += len(each.tokens)
            if size >= _CHUNK:
                flush()
        flush()
        for file in files.values():
            os.fsync(file.fileno())
    return written


def append(files: Files, folder: Path) -> None:
    """Puts the examples that were written into ``folder`` behind those of ``files``."""
    done = files[TOKENS].size // 4
    with durable.explained("write the cache", folder):
        with files[TOKENS].path.open("ab", buffering=0) as file, (folder / TOKENS).open("rb", buffering=0) as part:
            while block := part.read(4 * _CHUNK):
                files[TOKENS].add(file, block)
            os.fsync(file.fileno())
        table = np.fromfile(folder / TABLE, _ROW)
        table["end"] += done
        with files[TABLE].path.open("ab", buffering=0) as file:
            files[TABLE].add(file, table.tobytes())
            os.fsync(file.fileno())


def _table(group: list[Encoded], before: int) -> np.ndarray:
    table = np.zeros(len(group), _ROW)
    table["end"] = before + np.cumsum([len(each.tokens) for each in group], dtype=np.int64)
    for name in ("number", "form", "cause"):
        table[name] = [getattr(each, name) for each in group]
    return table


def opened(place: Path, path: Path, digest: str, *, warn: bool = True, verify: bool = True) -> Store | None:
    """None when there is no cache, or with a UserWarning a damaged one. verify: by its checksums; else somebody did."""
    if not place.is_dir():
        return None
    try:
        about = durable.load_json(place / ABOUT)
        for name in (TOKENS, TABLE) if verify else ():
            found = {"bytes": (place / name).stat().st_size, "sha256": durable.sha256(place / name)}
            if about["files"][name] != found:
                raise ValueError(f"{name} is not what was written")
        table = np.fromfile(place / TABLE, _ROW)
        count = about["files"][TOKENS]["bytes"] // 4
        tokens: np.ndarray = np.memmap(place / TOKENS, np.int32, "r", shape=count) if count else np.zeros(0, np.int32)
        if len(table) and int(table["end"][-1]) != count:
            raise ValueError(f"{TABLE} and {TOKENS} are not of one making")
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        if warn:
            text = f"{path}: its cache {place} is damaged and is made again: {error}"
            warnings.warn(text, UserWarning, stacklevel=4)
        return None
    return Store(tokens, table, path, digest, place)
