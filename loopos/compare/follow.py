"""What a comparison notes of a training while it runs: the digest of every batch as the model got it, the time and the
loss of every update, every evaluation. It lies in the folder of the trial and goes on with a run that is resumed."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loopos.checks import finite_or_none
from loopos.run.callbacks import Callback
from loopos.run.metrics import MetricsLog, read_metrics

from .trial import LAST

UPDATES = "updates.jsonl"
POINTS = 100  # of a curve of the training


def digest_of(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and bits, in the order given."""
    digest = hashlib.sha256()
    for name, array in weights.items():
        digest.update(f"{name}\0".encode())
        _feed(digest, array)
    return digest.hexdigest()


def _feed(digest: Any, array: Any) -> None:
    array = np.ascontiguousarray(array)
    digest.update(f"{array.dtype.str}{array.shape}\0".encode())
    digest.update(array.data if array.size else b"")


class Follow(Callback):
    """A callback for the training of a trial."""

    def __init__(self, folder: Path):
        self._folder, self._mark = folder, 0.0
        self._log: MetricsLog | None = None
        self.start = ""

    def begins_with(self, weights: Mapping[str, np.ndarray]) -> None:
        """The weights before the first update, also where the run is then resumed."""
        self.start = digest_of(weights)

    def on_train_begin(self, info: dict[str, Any]) -> None:
        self._log = MetricsLog(self._folder / UPDATES, info["step"])
        self._rest()

    def on_step_end(self, info: dict[str, Any]) -> None:
        seconds = time.perf_counter() - self._mark
        digest = hashlib.sha256()
        for batch in info["batches"]:
            for array in batch:
                _feed(digest, array)
        assert self._log is not None
        counts = {name: info[name] for name in ("nonfinite", "skipped", "clipped")}
        numbers = {"loss": info["loss"], "grad_norm": info["grad_norm"], "seconds": seconds}
        self._log.write({"step": info["step"], "batch": digest.hexdigest()[:16]} | numbers | counts)
        self._rest()

    def on_evaluate(self, info: dict[str, Any]) -> None:
        assert self._log is not None
        self._log.write({"step": info["step"], "eval_loss": info["eval_loss"]})
        self._rest()

    def on_log(self, info: dict[str, Any]) -> None:
        self._rest()

    def on_save(self, info: dict[str, Any]) -> None:
        self._rest()

    def on_train_end(self, info: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.close()

    def _rest(self) -> None:
        """From now on the time is that of the next update."""
        self._mark = time.perf_counter()


def batches_of(folder: Path) -> list[str]:
    """The digest of each update's batches, in order; of a trial that never began none."""
    return [line["batch"] for line in _lines(folder) if "batch" in line]


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / UPDATES
    return read_metrics(path) if path.is_file() else []


def followed(folder: Path) -> dict[str, Any]:
    """Of a trial, the fields of :class:`loopos.compare.trial.Outcome` that its notes tell."""
    lines = _lines(folder)
    updates = [line for line in lines if "batch" in line]
    seconds, at = 0.0, {0: 0.0}
    for line in updates:
        seconds += line["seconds"]
        at[line["step"]] = seconds
    scored = {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}
    steps = updates[-1]["step"] if updates else 0
    last = updates[-1] if updates else {}
    size = math.ceil(len(updates) / POINTS) or 1
    curves = {name: [[part[-1]["step"], _mean(part, name)] for part in _parts(updates, size)] for name in _DRAWN}
    curves["eval_loss"] = [[step, at[step], loss] for step, loss in scored.items() if step in at]
    return {
        "steps": steps,
        "batches": hashlib.sha256("".join(line["batch"] for line in updates).encode()).hexdigest(),
        "loss": _mean(updates[-math.ceil(len(updates) / LAST) :], "loss") if updates else None,
        "eval_loss": finite_or_none(scored.get(steps)),
        "seconds": seconds,
        **{name: int(last.get(name, 0)) for name in ("nonfinite", "skipped", "clipped")},
        "curves": curves,
    }


_DRAWN = ("loss", "grad_norm")


def _parts(lines: list[dict[str, Any]], size: int) -> Iterable[list[dict[str, Any]]]:
    return (lines[start : start + size] for start in range(0, len(lines), size))


def _mean(lines: list[dict[str, Any]], name: str) -> float | None:
    """None where one of them is not finite."""
    values = [finite_or_none(line[name]) for line in lines]
    return None if None in values else math.fsum(values) / len(values)
