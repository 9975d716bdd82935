"""Files of examples, one record at a time: JSON lines, CSV (names in its first line), Parquet (extra [data])."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loopos import checks

from .forms import EXPECTED, check_columns
from .lines import WHOLE, Share, bounds, count_lines, lines

JSON_LINES, CSV, PARQUET = (".jsonl", ".ndjson"), ".csv", ".parquet"
SUFFIXES = (*JSON_LINES, CSV, PARQUET)
Seen = Callable[[int], Any] | None


def unit(path: Path) -> str:
    """What errors count in such a file."""
    return "row" if path.suffix.lower() == PARQUET else "line"


def lines_before(path: Path, share: Share) -> int:
    """What the number of the next share's first line goes up by: how many begin in this one. Rows and the lines of CSV
    are counted from the start of the file by whoever reads a share of them."""
    return count_lines(path, share) if path.suffix.lower() in JSON_LINES else 0


def records(
    path: Path, name: str, seen: Seen = None, share: Share = WHOLE, before: int = 0
) -> Iterator[tuple[int, Any]]:
    """(line or row from 1, record) of a file of examples; seen: is told how many bytes were read; share: of the
    records, each of which is in one of the shares; before: the sum of :func:`lines_before` of those before it. Whatever
    cannot be read: ValueError that says where."""
    suffix = path.suffix.lower()
    if suffix == PARQUET:
        from .parquet import rows

        return rows(path, name, seen, share)
    return _csv(path, name, seen, share) if suffix == CSV else _json(path, name, seen, share, before)


def _json(path: Path, name: str, seen: Seen, share: Share, before: int) -> Iterator[tuple[int, Any]]:
    for number, line in lines(path, name, seen, share, before):
        line = line.strip()
        if not line:
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: expected a JSON object such as {EXPECTED}, got {checks.shown(line)}: "
                f"{error.msg} at column {error.colno}"
            ) from None
        except (ValueError, RecursionError) as error:  # a number of a million digits, brackets a million deep
            raise ValueError(f"{name}, line {number}: expected a JSON object such as {EXPECTED}: {error}") from None


def _csv(path: Path, name: str, seen: Seen, share: Share) -> Iterator[tuple[int, Any]]:
    """Records by the names in the first line; the number is that of the line where a record ends. A line end within
    quotes ends none, so what comes before a share is parsed too, and skipped."""
    import csv  # here, because few runs need it

    first, last = bounds(path.stat().st_size, share)
    end, read = math.inf if share[0] == share[1] - 1 else last, 0

    def told(size: int) -> None:
        nonlocal read
        read += size
        if seen is not None:
            seen(size)

    limit = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader((line for _, line in lines(path, name, told)), strict=True)
        columns: list[str] | None = None
        while True:
            at = read
            if at >= end:
                return
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(
                    f"{name}, line {reader.line_num}: expected CSV, got a line that is none: {error}"
                ) from None
            if not any(row):
                continue
            if columns is None:
                columns = check_columns(row, name)
                continue
            if at < first:
                continue
            if len(row) != len(columns):
                where = f"{name}, line {reader.line_num}"
                raise ValueError(f"{where}: expected {len(columns)} fields as the first line has, got {len(row)}")
            yield reader.line_num, dict(zip(columns, row, strict=True))
    finally:
        csv.field_size_limit(limit)
