"""What the folder of a run tells besides the curves of its log: births of numbers that were not finite, and updates so
large that they replaced what was there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from loopos.bundle import bundles, read_birth
from loopos.errors import Birth, CheckpointError

from .findings import LIKELY, Finding
from .runs import Run

LEAP = 1.0  # of update to weight: what was there before hardly matters after it
_QUOTES = 3


class Ending(NamedTuple):
    """A bundle. step, birth: of its update; past: the log went on beyond it, in a later attempt; problem: why it cannot
    be read, else ""."""

    path: Path
    step: int | None
    birth: Birth | None
    past: bool
    problem: str


def endings(run: Run) -> Iterator[Ending]:
    """The updates that ended the run, in the order of their steps."""
    last = max((record["step"] for record in run.records), default=-1)
    told = births(run)
    for path in bundles(run.folder) if run.folder.is_dir() else ():
        try:
            step, birth = read_birth(path)
        except (OSError, CheckpointError) as error:
            yield Ending(path, None, None, False, str(error))
        else:
            yield Ending(path, step, birth, last >= step and step not in told, "")


def births(run: Run) -> dict[int, str]:
    """{step: the birth that its line of the log holds}."""
    return {record["step"]: record["birth"] for record in run.records if isinstance(record.get("birth"), str)}


def leap(run: Run) -> Finding | None:
    """A matrix that one update, before the first that was refused, moved by more than its own size. None when nothing
    was refused: a run that goes on well has no fault to explain."""
    refused = [record["step"] for record in run.records if _is_bad(record)]
    refused += [ending.step for ending in endings(run) if ending.birth is not None and not ending.past]
    if not refused:
        return None
    before = [record for record in run.records if record["step"] < min(refused)]
    moved = [(ratio, name, record) for record in before for name, ratio in _ratios(record) if ratio > LEAP]
    if not moved:
        return None
    ratio, name, record = max(moved, key=lambda each: each[0])
    rate = record.get("learning_rate")
    at = f", at a learning rate of {rate:g}" if isinstance(rate, (int, float)) else ""
    said = [
        f"step {finding.get('step')}: {str(finding['sentence'])[:300]}"
        for each in before
        for finding in (each["findings"] if isinstance(each.get("findings"), list) else [])
        if isinstance(finding, Mapping) and "sentence" in finding
    ]
    return Finding(
        "learning-rate-too-large",
        LIKELY,
        f"update {record['step']} moved {name} by {ratio:.3g} times its own size{at}, and what followed was not "
        "finite. Updates of a healthy run are near 1e-3 of it.",
        (f"step {record['step']}: update_ratio of {name} is {ratio:.3g}", *said[:_QUOTES]),
        "the same run with a tenth of the rate, or a longer warm-up",
    )


def _is_bad(record: Mapping[str, Any]) -> bool:
    return "birth" in record or ("loss" in record and record["loss"] is None)


def _ratios(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    ratios = record.get("update_ratio")
    for name, value in ratios.items() if isinstance(ratios, Mapping) else ():
        if isinstance(value, (int, float)):
            yield str(name), float(value) if abs(value) < 1e308 else math.inf
        elif value is None:
            yield str(name), math.inf  # null: beyond what float64 holds
