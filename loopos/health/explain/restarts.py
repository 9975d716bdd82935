"""Where a log begins anew: its counter goes back and the loss is up again, as of a restart that loaded no weights."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace

from loopos.monitor.verdict import FEWEST, LEARNING, verdict

from .findings import LIKELY, POSSIBLE, Finding
from .logs import Log, Record
from .series import series

CAUSE = "restart"
_NEAR = 5  # entries on either side that are compared
_RISE = 0.25  # of what had been learned
_LEAST = 0.08  # of the loss: a mean over an epoch begins anew with its first batch
_AS_BEFORE, _CLEAR = 0.8, 5  # of what had been learned; times the usual step from one loss to the next
_NOISE = 2  # times what one entry usually departs from the line through its neighbours


def divide(log: Log) -> None:
    """Number the runs of a log. A counter that goes back while the loss goes on (a resumed run, or a count within an
    epoch) begins no other run; one after losses that are not finite does, for the weights were others."""
    records, run = list(log.records), 0
    places = [(i, record.values["loss"]) for i, record in enumerate(records) if "loss" in record.values]
    back = _backward(records)
    starts: list[int] = []
    begin = 0  # of the present run, in places
    for at, (i, _) in enumerate(places):
        if i in back and _is_anew(
            [loss for _, loss in places[begin:at]], [loss for _, loss in places[at : at + _NEAR]]
        ):
            starts.append(i)
            begin = at
    if not starts:
        return
    ahead = iter([*starts, len(records)])
    following = next(ahead)
    for i, record in enumerate(records):
        if i == following:
            run, following = run + 1, next(ahead)
        records[i] = replace(record, run=run)
    log.records = records


def _backward(records: list[Record]) -> set[int]:
    """The entries with a loss whose step is lower than the one before, and no epoch has passed; epochs are compared
    where no steps are logged."""
    found: set[int] = set()
    step = epoch = epoch_then = -math.inf
    for i, record in enumerate(records):
        now = record.values.get("epoch", epoch)
        if "loss" in record.values:
            here = record.values.get("step")
            if here is None:
                if now < epoch_then:
                    found.add(i)
                    step = -math.inf
            else:
                if now < epoch_then or (here < step and now <= epoch_then):
                    found.add(i)
                step = here
            epoch_then = now
        epoch = now
    return found


def _is_anew(before: list[float], after: list[float]) -> bool:
    finite = [loss for loss in before if math.isfinite(loss)]
    last, after = finite[-_NEAR:], [loss for loss in after if math.isfinite(loss)]
    if before and not any(map(math.isfinite, before[-3:])):
        return bool(after)
    if len(last) < 3 or len(after) < 2:
        return False
    low, high = statistics.median(last), statistics.median(after)
    near = finite[-4 * _NEAR :]
    noise = statistics.median(abs(a - 2 * b + c) for a, b, c in zip(near, near[1:], near[2:], strict=False))
    learned = max(statistics.median(finite[:_NEAR]) - low, 0.0)
    return high - low > max(_RISE * learned, _NOISE * noise, _LEAST * abs(low))


def restarted(log: Log) -> Iterator[Finding]:
    """Rule: what a log of several runs says."""
    pairs = [(a, b) for a, b in _neighbours(log) if a.run != b.run and math.isfinite(a.values["loss"])]
    if not pairs:
        yield from _leap(log)
        return
    a, b = pairs[0]
    clock = next(
        (name for name in ("step", "epoch") if b.values.get(name, math.inf) < a.values.get(name, -math.inf)), ""
    )
    times = f" {len(pairs)} times" if len(pairs) > 1 else ""
    where = f"the {clock or 'count'} goes back{times}" + (
        f" (from {a.values[clock]:g} to {b.values[clock]:g})" if clock else ""
    )
    yield Finding(
        CAUSE,
        LIKELY,
        f"the log holds {len(pairs) + 1} runs: {where} and the loss rises from {a.values['loss']:.4g} to "
        f"{b.values['loss']:.4g}. Either they are runs of their own, or a restart did not load the weights. The trend "
        "is told of one of them.",
        tuple(f"line {record.line}: {record.text}" for record in (a, b)),
        "look at what the restart loaded: the first loss after it should be the last one before it",
    )


def _leap(log: Log) -> Iterator[Finding]:
    """The same where the count goes on: the loss leaps to where it began, stays there and is learned once more."""
    records = [record for record in series(log) if math.isfinite(record.values["loss"])]
    losses = [record.values["loss"] for record in records]
    steps = [b - a for a, b in itertools.pairwise(losses)]
    at = max(range(FEWEST, len(losses) - FEWEST + 1), key=lambda i: steps[i - 1], default=None)
    if at is None:
        return
    top, low = statistics.median(losses[:_NEAR]), statistics.median(losses[at - _NEAR : at])
    high = statistics.median(losses[at : at + _NEAR])
    least = max(_AS_BEFORE * (top - low), _CLEAR * statistics.median(map(abs, steps)), _RISE * abs(low))
    middle = (low + high) / 2  # all of them are on one side of it: single outliers are no leap
    parted = max(losses[at - _NEAR : at]) < middle < min(losses[at : at + _NEAR])
    if top <= low or high - low <= least or not parted or verdict(losses[at:]).kind != LEARNING:
        return
    a, b = records[at - 1], records[at]
    yield Finding(
        CAUSE,
        POSSIBLE,
        f"the loss leaps from {a.values['loss']:.4g} to {b.values['loss']:.4g}, where it began near {top:.4g}, and is "
        "learned once more: weights that were lost in a restart (the count goes on), or by one update.",
        tuple(f"line {record.line}: {record.text}" for record in (a, b)),
        "look whether the program was started again there, and what it loaded; else replay that update",
    )


def _neighbours(log: Log) -> Iterator[tuple[Record, Record]]:
    records = [record for record in log.records if "loss" in record.values]
    yield from itertools.pairwise(records)
