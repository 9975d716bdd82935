"""What the held-out losses in a log say beside those of the training."""

from __future__ import annotations

from collections.abc import Iterator

from loopos.monitor import heldout
from loopos.monitor.heldout import HeldOutVerdict, Point

from .findings import CERTAIN, LIKELY, POSSIBLE, Finding
from .logs import Log, Record
from .series import CLOCKS, bad, is_filtered, latest, quoted, with_loss
from .series import zeros as substitutes

_OWN = {"loss", *CLOCKS}  # what an entry of its own has


def compared(log: Log) -> HeldOutVerdict:
    """A value that stands there again is the same evaluation, as progress bars repeat it. Of a
    log of several runs, that whose curve is told."""
    curve = latest(log)
    held: list[Point] = []
    last: Record | None = None
    for at, record in _evaluations(log, curve):
        loss = record.values["eval_loss"]
        if last is not None and last.line == record.line and not _OWN & set(record.values):
            continue  # of another set, on the same line
        if held and held[-1].value == loss:
            held.pop()
        held.append(Point(at, _when(record), loss))
        last = record
    places = {id(record): at for at, record in enumerate(log.records)}
    return heldout.compare(held, [(places[id(record)], record.values["loss"]) for record in curve])


def _evaluations(log: Log, curve: list[Record]) -> Iterator[tuple[int, Record]]:
    run = curve[-1].run if curve else None
    for at, record in enumerate(log.records):
        if "eval_loss" in record.values and run in (None, record.run):
            yield at, record


def held_out(log: Log) -> Iterator[Finding]:
    found = compared(log)
    evidence = quoted([log.records[point.at] for point in found.points])
    if found.kind == heldout.NOT_FINITE:
        first = log.records[found.points[0].at]
        if any(record.order <= first.order for record in _spoilt(log)):
            return  # the training loss tells it before
        losses = [record.values["loss"] for record in latest(log)]
        beside = f". The training loss is finite, now {losses[-1]:.4g}, and says nothing of that" if losses else ""
        if losses and not any(losses):
            beside = ". The training loss is exactly 0 from the start, so that is a NaN too, and shown as 0"
        yield Finding(
            "eval-not-finite",
            CERTAIN,
            f"{found.says}{beside}.",
            evidence,
            "count the labels that are not masked in the held-out data, and its batches; evaluate once in float32",
        )
    elif found.kind == heldout.ZERO:
        yield Finding(
            "eval-not-finite",
            LIKELY,
            f"{found.says}.",
            evidence,
            "count the labels that are not masked in the held-out data",
        )
    elif found.kind == heldout.RISES:
        yield Finding(
            "overfitting",
            LIKELY if found.clear and found.by_heart else POSSIBLE,
            f"{found.says}.",
            evidence,
            f"go back to the weights of {found.points[0].label}; more data, fewer epochs, dropout or weight decay",
        )


def _spoilt(log: Log) -> list[Record]:
    """Training losses that are no losses."""
    return [*(r for r in with_loss(log) if bad(r.values["loss"]) or is_filtered(r)), *substitutes(log)]


def _when(record: Record) -> str:
    for clock in ("step", "epoch"):
        if (value := record.get(clock)) is not None:
            return f"{clock} {value:g}"
    return f"line {record.line}"
