"""What the folder of a run tells besides the curves of its log: births of numbers that were not finite, and updates so
large that they replaced what was there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from loopos.births.growth import BY_A_GRADIENT
from loopos.errors import Birth, CheckpointError
from loopos.files.checkpoint_folder import runs_of
from loopos.health.runs import Run, checkpoints
from loopos.run.bundle import bundles, read_birth

from .findings import LIKELY, Finding

LEAP = 1.0  # of update to weight: what was there before hardly matters after it
_QUOTES = 3


class Ending(NamedTuple):
    """A bundle. step, birth: of its update; past: the log went on beyond it, in a later attempt; problem: why it cannot
    be read, or is not of this run, else ""."""

    path: Path
    step: int | None
    birth: Birth | None
    past: bool
    problem: str


class Survey(NamedTuple):
    """Of one look at a log. last: its highest step, -1 of none; births: {step: the birth that its line holds}; bad: the
    first step whose numbers were not finite, or None."""

    last: int
    births: dict[int, str]
    bad: int | None


def survey(run: Run) -> Survey:
    last, recorded, bad = -1, {}, None
    for record in run.records:
        last = max(last, record["step"])
        if isinstance(record.get("birth"), str):
            recorded[record["step"]] = record["birth"]
        if _is_bad(record):
            bad = record["step"] if bad is None else min(bad, record["step"])
    return Survey(last, recorded, bad)


def births(run: Run) -> dict[int, str]:
    """{step: the birth that its line of the log holds}."""
    return survey(run).births


def endings(run: Run, seen: Survey | None = None) -> Iterator[Ending]:
    """The updates that ended the run, in the order of their steps. seen: of the log, if it was looked at already."""
    seen = seen or survey(run)
    found: list[tuple[Ending, str | None]] = []
    for path in bundles(run.folder) if run.folder.is_dir() else ():
        try:
            step, birth, of = read_birth(path)
        except (OSError, CheckpointError) as error:
            found.append((Ending(path, None, None, False, str(error)), None))
        else:
            past = seen.last >= step and step not in seen.births
            found.append((Ending(path, step, birth, past, ""), of))
    own = _own(run, seen, found)
    for ending, of in found:
        if of is not None and own and of not in own:
            other = f"{ending.path.name} is of another run, which had this folder before"
            yield Ending(ending.path, None, None, False, other)
        else:
            yield ending


def _own(run: Run, seen: Survey, found: Iterable[tuple[Ending, str | None]]) -> set[str]:
    """The ids of the run that the log is of: those of bundles whose births stand in it, else those of the newest
    checkpoint, which is of an earlier run where a fresh one in the same folder ended before it could write any."""
    logged = {
        of
        for ending, of in found
        if of is not None and ending.birth is not None and seen.births.get(ending.step) == str(ending.birth)
    }
    kept = checkpoints(run.folder)
    return logged or (runs_of(kept[max(kept)]) if kept else set())


def leap(run: Run, seen: Survey | None = None) -> Finding | None:
    """A matrix that one update, before the first that was refused, moved by more than its own size. None when nothing
    was refused: a run that goes on well has no fault to explain."""
    seen = seen or survey(run)
    refused = [] if seen.bad is None else [seen.bad]
    refused += [
        end.step for end in endings(run, seen) if end.birth is not None and end.step is not None and not end.past
    ]
    if not refused:
        return None
    births = [end.birth for end in endings(run, seen) if end.birth is not None]
    if any(birth.cause_class == "weight decay too large" or BY_A_GRADIENT in birth.cause for birth in births):
        return None  # these move weights by more than their size too, and the birth names them
    most, name, record, said = LEAP, "", {}, []
    for each in (each for each in run.records if each["step"] < min(refused)):
        for tensor, ratio in _ratios(each):
            if ratio > most:
                most, name, record = ratio, tensor, each
        for finding in each["findings"] if isinstance(each.get("findings"), list) else []:
            if len(said) < _QUOTES and isinstance(finding, Mapping) and "sentence" in finding:
                said.append(f"step {finding.get('step')}: {str(finding['sentence'])[:300]}")
    if not name:
        return None
    rate = record.get("learning_rate")
    at = f", at a learning rate of {rate:g}" if isinstance(rate, (int, float)) else ""
    return Finding(
        "learning-rate-too-large",
        LIKELY,
        f"update {record['step']} moved {name} by {most:.3g} times its own size{at}, and what followed was not "
        "finite. Updates of a healthy run are near 1e-3 of it.",
        (f"step {record['step']}: update_ratio of {name} is {most:.3g}", *said),
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
