"""The series in a log: which of its numbers are losses, and which only stand in the place of one."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from loopos.monitor.verdict import FEWEST

from .logs import Log, Record

CLOCKS = {"step", "epoch", "learning_rate"}
NEAR_ZERO = 0.02  # nats: a loss that was as low may go on to what is printed as 0
_FEW, _PART, _STEPS = 6, 0.2, 3  # losses; share of the highest; usual steps from one loss to the next
_RESOLUTIONS = 5  # so many times the last digit that is printed, too


def quoted(records: Sequence[Record], most: int = 3) -> tuple[str, ...]:
    lines = tuple(f"line {record.line}: {record.text}" for record in records[:most])
    return lines if len(records) <= most else (*lines, f"and {len(records) - most} more")


def bad(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


def is_norm(name: str) -> bool:
    return "norm" in name.lower() or name.startswith("||")


def with_loss(log: Log) -> list[Record]:
    return [record for record in log.records if "loss" in record.values]


def is_filtered(record: Record) -> bool:
    """A loss of exactly 0 beside a gradient norm that is not finite: no loss, but what was put in its place."""
    return record.get("loss") == 0 and not math.isfinite(record.values.get("grad_norm", 0.0))


def zeros(log: Log) -> list[Record]:
    """Losses of exactly 0 that come after others far from it: a cross-entropy does not get there from one entry to the
    next, so that these stand for something else. None where losses are negative too: there 0 is a value as any."""
    records = [record for record in _dated(with_loss(log)) if record.get("valid_tokens") != 0]
    losses = [record.values["loss"] for record in records]
    if 0 not in losses or any(loss < 0 for loss in losses):
        return []
    places = max((_places(loss) for loss in losses if 0 < loss < math.inf), default=0)
    far = max(NEAR_ZERO, _RESOLUTIONS * 10.0**-places)
    found, before = [], []
    for record, loss in zip(records, losses, strict=True):
        if loss == 0 and not is_filtered(record) and before and not _may_reach_zero(before, far):
            found.append(record)
        elif 0 < loss < math.inf:
            before.append(loss)
    return found


def _may_reach_zero(before: list[float], far: float) -> bool:
    """Whether a loss may be 0 after these: near it, or fallen to a part of what it was and within its own steps."""
    now = statistics.median_low(before[-3:])
    if now <= far or len(before) < _FEW:
        return now <= far
    steps = [abs(a - b) for a, b in itertools.pairwise(before[-8:])]
    return now < _PART * max(before) and now < _STEPS * statistics.median(steps)


def series(log: Log) -> list[Record]:
    """The entries that form the training curve, without substitutes: those that say when, if any does."""
    instead = {id(record) for record in zeros(log)}
    return _dated([r for r in with_loss(log) if not is_filtered(r) and id(r) not in instead])


def latest(log: Log) -> list[Record]:
    """Of a log of several runs, the curve of the last one, or of the longest where that has hardly begun."""
    records = series(log)
    runs = [list(run) for _, run in itertools.groupby(records, key=lambda record: record.run)]
    return runs[-1] if runs and len(runs[-1]) >= FEWEST else max(runs, key=len, default=[])


def _dated(records: list[Record]) -> list[Record]:
    return [record for record in records if CLOCKS & set(record.values)] or records


def _places(value: float) -> int:
    """Decimal places that a number is printed with."""
    return len(repr(round(value, 6)).partition(".")[2].rstrip("0")) if value < 1e15 else 0
