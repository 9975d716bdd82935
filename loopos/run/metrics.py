"""The logs of a run, one strict JSON object a line, in its order: metrics.jsonl holds the history, bits.jsonl the loss
and gradient norm of every step, each as ``float.hex``, so that two runs can be compared bit by bit."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loopos.errors import CheckpointError
from loopos.files import durable

METRICS, BITS = "metrics.jsonl", "bits.jsonl"
DOCTOR = "doctor.json"  # what the doctor said before the run
AUDIT = "audit.json"  # the label audit of the examples that the run learns
_MAX_LINE = 1 << 20


def as_logged(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the history as logs show it: an update without any target has no loss and no gradient norm, where the
    history has 0.0 by definition."""
    empty = entry.get("valid_tokens") == 0 and not entry.get("birth")
    return {name: value for name, value in entry.items() if not (empty and name in ("loss", "grad_norm"))}


class MetricsLog:
    """Appends records to a log file; what the run has already logged up to ``step`` stays in it.

    step: updates done when the run continues; 0 begins anew. Lines of later steps are dropped, for the run will
    write them again, and so are damaged ones. Neither a damaged line nor a log that cannot be read at all is an
    error: the good lines stay, an unreadable log is moved aside, and ``note`` says so (None when all was well).

    Raises OSError when the log cannot be written.
    """

    def __init__(self, path: str | os.PathLike, step: int = 0):
        self.path = Path(path)
        self.note: str | None = None
        self._fd: int | None = None
        self._resume(step)
        with durable.explained("open the log", self.path):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o666)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closing twice is harmless."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with durable.explained("close the log", self.path):
                os.close(fd)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one line at once. NaN and inf become null; numpy scalars become numbers; "step" is required."""
        plain = _plain(dict(record))
        if type(plain.get("step")) is not int:
            raise ValueError(f"MetricsLog.write: expected a record with an integer step, got {plain!r}")
        self._append(durable.dump_json(plain) + b"\n")

    def write_bits(self, step: int, loss: float, grad_norm: float) -> None:
        """A line of bits.jsonl. Every step has one, so it is put together at once."""
        text = f'{{"step": {step}, "loss_hex": "{loss.hex()}", "grad_norm_hex": "{grad_norm.hex()}"}}\n'
        self._append(text.encode("ascii"))

    def _append(self, line: bytes) -> None:
        if self._fd is None:
            raise RuntimeError("MetricsLog.write: the log is closed")
        try:
            while line:
                written = os.write(self._fd, line)
                if written <= 0:
                    raise OSError(errno.EIO, "the system wrote nothing and gave no reason")
                line = line[written:]
        except OSError:
            with durable.explained("write", self.path):
                raise

    def _resume(self, step: int) -> None:
        try:
            info = os.lstat(self.path)
        except OSError:
            return  # no log yet; if there is another reason, opening it will say so
        try:
            if not stat.S_ISREG(info.st_mode):
                raise CheckpointError(self.path, "this is not a regular file")
            good, damaged, later = _read_lines(self.path, step)
        except (OSError, CheckpointError) as error:
            aside = durable.beside(self.path, "unreadable")
            with durable.explained("move an unreadable log aside", self.path):
                os.rename(self.path, aside)
            self.note = f"the log could not be read and is now {aside.name}: {error}"
            return
        if damaged:
            self.note = f"{self.path.name}: {damaged} damaged lines were dropped"
        if damaged or later:
            durable.write_bytes(self.path, b"".join(good))


def open_log(path: Path, step: int) -> MetricsLog:
    """The log of a run that goes on after ``step`` updates; what was wrong with it is a RuntimeWarning."""
    log = MetricsLog(path, step)
    if log.note is not None:
        warnings.warn(f"train: {log.note}", RuntimeWarning, stacklevel=3)
    return log


def set_aside(path: Path) -> Path | None:
    """Rename a file with something in it to ``<name>.old``, or to a free name like it; the new path, None when there is
    no such file."""
    try:
        info = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(info.st_mode) or info.st_size == 0:
        return None
    aside = path.with_name(f"{path.name}.old")
    if os.path.lexists(aside):
        aside = durable.beside(path, "old")
    with durable.explained("move aside what another run left", path):
        os.rename(path, aside)
    return aside


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The good records of a log, in order. Damaged lines are left out."""
    return [json.loads(line) for line in _read_lines(Path(path), None)[0]]


def _read_lines(path: Path, step: int | None) -> tuple[list[bytes], int, int]:
    """(the good lines up to ``step``, how many are damaged, how many are later)."""
    good, damaged, later = [], 0, 0
    with durable.open_regular(path) as (raw, _), durable.explained("read", path):
        file = io.BufferedReader(raw)
        while line := file.readline(_MAX_LINE):
            recorded = _step_of(line, path)
            if recorded is None:
                damaged += 1
            elif step is not None and recorded > step:
                later += 1
            else:
                good.append(line)
    return good, damaged, later


def _step_of(line: bytes, path: Path) -> int | None:
    """The step of a whole, sound line; None for any other."""
    if not line.endswith(b"\n"):
        return None
    with contextlib.suppress(CheckpointError):
        record = durable.parse_json(line, path)
        if isinstance(record, dict) and type(record.get("step")) is int:
            return record["step"]
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
