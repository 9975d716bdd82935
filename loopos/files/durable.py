"""Files that are either whole or not there: durable writes, careful reads and strict JSON.

Writing: a file is made under a temporary name in its own folder, every write is checked, the file is synced, renamed
into place, and the folder is synced; a failure removes the temporary file and leaves what was there before. An fsync
that fails is a lost write and is never tried again: a second one may report success for data already dropped.

Reading: what a file claims is checked against what it is before anything is allocated or used, and every refusal is a
:class:`loopos.CheckpointError` with the path, the fault and, where known, the byte.

System calls go through ``os`` by name, so that the tests can make each of them fail.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from loopos.errors import CheckpointError

from .kinds import HEAD, kind_of

MAX_JSON_DEPTH = 32
MAX_JSON_BYTES = 100_000_000  # the safetensors library refuses larger headers too
_MAX_JSON_NODES = 300_000  # objects and arrays: bounds the memory that a hostile file can ask for
_MAX_DIGITS = 1000  # of an integer; beyond that int() is slow or, in newer Pythons, refuses
_TOO_LARGE = 10**_MAX_DIGITS
_CHUNK = 1 << 26
_MARK = b"\xef\xbb\xbf"  # U+FEFF in UTF-8, as Notepad writes it

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)  # a string, closed or not, or a bracket


# Errors and names


@contextlib.contextmanager
def explained(doing: str, path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError into a sentence that keeps its errno (and so its class) and names a path."""
    try:
        yield
    except OSError as error:
        code = error.errno or errno.EIO
        where = os.fspath(error.filename if error.filename is not None else path)
        raise OSError(code, f"cannot {doing}: {error.strerror or error}", where) from error


def beside(path: str | os.PathLike, kind: str) -> Path:
    """A name in the same folder that nobody else uses: ``<name>.<kind>.<pid>.<random>``."""
    path = Path(path)
    return path.with_name(f"{path.name}.{kind}.{os.getpid()}.{os.urandom(4).hex()}")


# Writing


def sync_folder(path: str | os.PathLike) -> None:
    """Make the names in a folder durable."""
    with explained("sync the folder", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such operation for folders
                raise
        finally:
            os.close(fd)


def make_folder(path: str | os.PathLike) -> None:
    """Create a folder and the missing ones above it, durably. One that exists is left as it is."""
    path = Path(path)
    with explained("create the folder", path):
        missing = []
        while not os.path.isdir(path):
            if os.path.lexists(path):
                raise NotADirectoryError(errno.ENOTDIR, "something that is not a folder has this name", str(path))
            missing.append(path)
            path = path.parent
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # made by another process in the meantime
                os.mkdir(folder)
            sync_folder(folder.parent)


def create(path: str | os.PathLike, data) -> None:
    """Write a new file from a contiguous buffer, or an iterator of them, and sync it. A name that is taken, even by a
    link: FileExistsError."""
    with explained("write", path):
        fd = os.open(path, _CREATE, 0o666)  # the umask applies
        try:
            try:
                for part in data if isinstance(data, Iterator) else [data]:
                    view = memoryview(part).cast("B")
                    while view:
                        written = os.write(fd, view[:_CHUNK])
                        if written <= 0:
                            raise OSError(errno.EIO, "the system wrote nothing and gave no reason")
                        view = view[written:]
                os.fsync(fd)
            finally:
                os.close(fd)  # checked as well: some file systems report a failed write only here
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise


def write_bytes(path: str | os.PathLike, data) -> None:
    """Replace (or make) a file durably and in one step: at every instant a reader finds the old bytes or the new ones.

    Raises OSError with errno and path; the old file is then as it was and the temporary one removed.
    """
    aside = beside(path, "tmp")
    create(aside, data)
    try:
        with explained("put the finished file in its place", path):
            os.rename(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    sync_folder(Path(path).parent)


def remove(path: str | os.PathLike) -> None:
    """Remove a file, or a folder with what it holds. A link is removed, not followed."""
    with explained("remove", path):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)


# Reading


@contextlib.contextmanager
def open_regular(path: str | os.PathLike) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file: (unbuffered file, size). A pipe, device or folder is a CheckpointError, never a wait."""
    with explained("open", path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise CheckpointError(path, "this is not a regular file")
        file = os.fdopen(fd, "rb", buffering=0)
    except BaseException:
        os.close(fd)
        raise
    with file:
        yield file, info.st_size


def read_exactly(file: BinaryIO, count: int, path: str | os.PathLike) -> np.ndarray:
    """The next ``count`` bytes as a writable uint8 array; fewer is a CheckpointError."""
    buffer = np.empty(count, np.uint8)
    view, done = memoryview(buffer), 0
    with explained("read", path):
        while done < count:
            got = file.readinto(view[done : done + _CHUNK])
            if not got:
                raise CheckpointError(path, f"the file ends {count - done} bytes early: it changed while being read")
            done += got
    return buffer


def read_bytes(path: str | os.PathLike, limit: int | None = None) -> np.ndarray:
    """A whole file as a writable uint8 array; larger than ``limit`` bytes is a CheckpointError."""
    with open_regular(path) as (file, size):
        if limit is not None and size > limit:
            raise CheckpointError(path, f"{size} bytes, more than the {limit} that such a file may have")
        return read_exactly(file, size, path)


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as (file, _), explained("read", path):
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# Strict JSON (RFC 8259): no NaN or Infinity, no duplicate keys, bounded depth


def dump_json(value: Any, indent: int | None = None) -> bytes:
    """``value`` as ASCII JSON that :func:`parse_json` gives back bit for bit (a tuple comes back as a list).

    It takes None, bool, int, float, str, list, tuple and dict with str keys. Another type: TypeError; NaN, inf, an
    integer of more than 1000 digits or more than 32 levels: ValueError. Both name the place.
    """
    _check_json(value, "value", 1)
    return json.dumps(value, allow_nan=False, indent=indent).encode("ascii")


def _check_json(value: Any, where: str, depth: int) -> None:
    if value is None or isinstance(value, (bool, str)):
        return
    if isinstance(value, int):
        if abs(value) >= _TOO_LARGE:
            raise ValueError(f"dump_json: {where} has more than {_MAX_DIGITS} digits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"dump_json: {where} is {value!r}, which strict JSON cannot hold; store null or a string")
    elif isinstance(value, (list, tuple, dict)):
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"dump_json: {where} is nested more than {MAX_JSON_DEPTH} levels deep")
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(key, str):
                raise TypeError(f"dump_json: {where} has the key {key!r}; expected str, got {type(key).__name__}")
            _check_json(item, f"{where}[{key!r}]", depth + 1)
    else:
        kinds = "None, bool, int, float, str, list or dict"
        raise TypeError(f"dump_json: {where} is {type(value).__name__}; expected {kinds}")


def parse_json(data, path: str | os.PathLike, *, base: int = 0) -> Any:
    """Parse strict JSON from a bytes-like object; ``path`` and ``base`` (where it begins) are for the message.

    Anything wrong is a CheckpointError: not UTF-8, a syntax error, NaN or Infinity, a number that overflows, a
    duplicate key, more than 32 levels, absurd size. A byte order mark in front is passed over (RFC 8259, 8.1).
    """
    raw = bytes(data)
    if len(raw) > MAX_JSON_BYTES:
        raise CheckpointError(path, f"{len(raw)} bytes of JSON, more than the {MAX_JSON_BYTES} allowed", base)
    mark = len(_MARK) if raw.startswith(_MARK) else 0
    raw, base = raw[mark:], base + mark
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        kind = kind_of(raw[:HEAD])
        what = f"no JSON: this is {kind}" if kind else f"not UTF-8: {error.reason}"
        raise CheckpointError(path, what, base + error.start) from None

    def position(index: int) -> int:
        return base + len(text[:index].encode("utf-8"))

    depth = nodes = 0
    for token in _TOKENS.finditer(text):  # before the parser, which would recurse
        first = text[token.start()]
        if first in "[{":
            depth, nodes = depth + 1, nodes + 1
            if depth > MAX_JSON_DEPTH or nodes > _MAX_JSON_NODES:
                limit = f"{MAX_JSON_DEPTH} levels" if depth > MAX_JSON_DEPTH else f"{_MAX_JSON_NODES} objects and lists"
                raise CheckpointError(path, f"JSON of more than {limit}", position(token.start()))
        elif first in "]}":
            depth -= 1
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        kind = kind_of(raw[:HEAD])
        what = f"no JSON: this is {kind}" if kind else f"not valid JSON: {error.msg}"
        raise CheckpointError(path, what, position(error.pos)) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f"not valid JSON: {error}", base or None) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r} occurs twice")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS + 1:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} overflows")
    return value


def load_json(path: str | os.PathLike, limit: int = MAX_JSON_BYTES) -> Any:
    """Read a strict JSON file. OSError when it cannot be read, CheckpointError when it is not what it should be."""
    return parse_json(read_bytes(path, limit), path)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a JSON file durably and in one step, indented for people."""
    write_bytes(path, dump_json(value, indent=2) + b"\n")
