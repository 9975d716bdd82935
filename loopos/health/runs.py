"""A run as its folder tells it: the records of metrics.jsonl, and what is wrong with the file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.checkpoint_folder import MANIFEST, MODEL, NAME
from loopos.run.metrics import BITS, METRICS

_MAX_LINE = 1 << 20
_MAX_DAMAGED = 20


@dataclass(frozen=True)
class Run:
    """folder; records: the sound lines, in order: a list, or what reads them anew each time it is gone through;
    damaged: a sentence for each line that is not sound."""

    folder: Path
    records: Any
    damaged: list[str]

    def by_step(self) -> dict[int, dict[str, Any]]:
        """The last record of each step, in the order of steps."""
        return dict(sorted({record["step"]: record for record in self.records}.items()))


def read_run(path: str | os.PathLike) -> Run:
    """Of a run's folder, or of a metrics.jsonl. Damaged and half lines are named and left out.

    FileNotFoundError when there is none, CheckpointError when it is no regular file."""
    path = Path(path)
    log = path / METRICS if path.is_dir() else path
    return Run(log.parent, *_read_log(log))


def stream_run(path: str | os.PathLike) -> Run:
    """The same for a log of any length: its records are not held, and damaged lines are left out unnamed."""
    path = Path(path)
    log = path / METRICS if path.is_dir() else path
    with durable.open_regular(log):
        return Run(log.parent, _Streamed(log), [])


def read_bits(run: Run) -> Run | None:
    """The same of the run's bits.jsonl, which has a record of every step; None when there is none."""
    log = run.folder / BITS
    return Run(run.folder, *_read_log(log)) if log.is_file() else None


def _read_log(log: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """(the sound records, a sentence for each line that is not sound)."""
    records, damaged = [], []
    for found in _lines(log):
        (damaged if isinstance(found, str) else records).append(found)
    if len(damaged) > _MAX_DAMAGED:
        damaged[_MAX_DAMAGED:] = [f"and {len(damaged) - _MAX_DAMAGED} more damaged lines"]
    return records, damaged


def _lines(log: Path) -> Iterator[dict[str, Any] | str]:
    """The record of each line, or a sentence on what is wrong with it; one line is held at a time."""
    with durable.open_regular(log) as (raw, _), durable.explained("read", log):
        file, count = io.BufferedReader(raw), 0
        while line := file.readline(_MAX_LINE):
            count += 1
            try:
                record = durable.parse_json(line, log.name)
                if not isinstance(record, dict) or type(record.get("step")) is not int:
                    raise CheckpointError(log.name, "no object with an integer step")
            except CheckpointError as error:
                half = "" if line.endswith(b"\n") else "it ends in the middle: "
                yield f"line {count}: {half}{error.what}"
            else:
                yield record


class _Streamed:
    """The sound records of a log, read from the file each time they are gone through."""

    def __init__(self, log: Path):
        self._log = log

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (found for found in _lines(self._log) if not isinstance(found, str))


def count_lines(path: Path) -> int | None:
    """Of a log that may be long, without a look at what they say; None when there is none or it cannot be read."""
    try:
        with durable.open_regular(path) as (file, _):
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except (OSError, CheckpointError):
        return None


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints in a run's folder by step, unverified."""
    if not folder.is_dir():
        return {}
    named = ((NAME.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    return {int(match[1]): path for match, path in named if match and not match[2]}


def weights_digest(checkpoint: Path) -> str | None:
    """SHA-256 of a checkpoint's weights, as its manifest says; None when it does not."""
    try:
        digest = durable.load_json(checkpoint / MANIFEST, limit=1 << 16)["files"][MODEL]["sha256"]
    except (OSError, CheckpointError, LookupError, TypeError):
        return None
    return digest if isinstance(digest, str) else None
