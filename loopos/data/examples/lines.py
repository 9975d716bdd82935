"""Lines of a text file, one at a time: what is wrong with one is said with its number."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loopos.files import kinds

MAX_LINE = 64 << 20  # bytes; a longer one is a file without line ends, or another kind of file
_BLOCK = 1 << 20
_MARK = b"\xef\xbb\xbf"  # U+FEFF in UTF-8, as some editors put it first
Share = tuple[int, int]  # number i, from 0, of n parts that are as equal as can be
WHOLE: Share = (0, 1)


def bounds(count: int, share: Share) -> tuple[int, int]:
    """From which of ``count`` things to which a share goes."""
    index, of = share
    return count * index // of, count * (index + 1) // of


def count_lines(path: Path, share: Share) -> int:
    """How many lines begin within this share of a file's bytes. No others are read."""
    first, last = bounds(path.stat().st_size, share)
    at, found = max(0, first - 1), int(first == 0 < last)  # a line begins behind the end of one, or with the file
    with path.open("rb", buffering=0) as file:
        file.seek(at)
        while at < last - 1 and (block := file.read(min(_BLOCK, last - 1 - at))):
            found, at = found + block.count(b"\n"), at + len(block)
    return found


def lines(
    path: Path, name: str, seen: Callable[[int], Any] | None = None, share: Share = WHOLE, before: int = 0
) -> Iterator[tuple[int, str]]:
    """(number from 1, line with its end) of a UTF-8 file; a byte order mark is left out. name: how errors call the
    file; seen: is told how many bytes were read; share: the lines that begin in it alone, with ``before`` lines before
    them. A file of another kind, a line longer than MAX_LINE, a byte of 0 or
    bytes that are not UTF-8: ValueError."""
    with path.open("rb", buffering=_BLOCK) as file:
        head = file.read(kinds.HEAD)
        if (kind := kinds.kind_of(head)) is not None:
            raise ValueError(f"{name}: expected lines of UTF-8 text; this is {kind}")
        first, last = bounds(os.fstat(file.fileno()).st_size, share)
        if first == 0:
            file.seek(len(_MARK) if head.startswith(_MARK) else 0)
            at = 0
        else:
            file.seek(first - 1)
            at = first - 1 + len(file.readline(MAX_LINE + 1))
        number, end = before, math.inf if share[0] == share[1] - 1 else last
        while at < end and (line := file.readline(MAX_LINE + 1)):
            number, at = number + 1, file.tell()
            if seen is not None:
                seen(len(line))
            yield number, _decoded(line, f"{name}, line {number}")


def _decoded(line: bytes, where: str) -> str:
    if len(line) > MAX_LINE:
        raise ValueError(
            f"{where}: expected a line of at most {MAX_LINE} bytes, got a longer one; are line ends missing?"
        )
    if (at := line.find(0)) >= 0:
        raise ValueError(
            f"{where}: expected text, got a byte of 0 at position {at} of the line; was the file written to its end?"
        )
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: expected UTF-8, got byte 0x{line[error.start]:02x} at position {error.start} of the line; "
            "convert the file to UTF-8"
        ) from None
