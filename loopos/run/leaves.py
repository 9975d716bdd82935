"""What an update computes: the passes through the core that it makes of its micro-batches, shard by shard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from loopos.data.batches import IGNORE, Batch
from loopos.distributed.tree import rows_of

from .objectives import CrossEntropy
from .settings import TrainSettings

MicroBatch = tuple[np.ndarray, np.ndarray, dict[str, Any]]


class Leaf(NamedTuple):
    """A shard, and the passes over its rows of each micro-batch: of those in which a target counts."""

    shard: int
    calls: list[MicroBatch]


def valid_of(batch: Batch) -> int:
    """How many of its targets count."""
    return int(np.count_nonzero(batch[1] != IGNORE))


def leaves_of(
    batches: Sequence[Batch],
    t: int,
    settings: TrainSettings,
    objective: CrossEntropy,
    units: int,
    run: Iterable[int],
    counts: Sequence[int] | None = None,
    rows: tuple[int, int] | None = None,
) -> list[Leaf]:
    """Of the shards ``run`` of update t. units: of all micro-batches, what the loss is the mean over; counts: of each,
    the targets that count, where somebody has counted them. rows: (how many a whole micro-batch has, which of them is
    the first in ``batches``), where these are a part."""
    shards = settings.shards or 1
    common = {
        "scale": 1 / max(1, units),
        "ignore_index": IGNORE,
        "step": t,
        "seed": settings.seed,
    }
    common["label_smoothing"] = settings.label_smoothing
    leaves = []
    for shard in run:
        calls = []
        for micro, batch in enumerate(batches):
            part, first = batch, 0
            if shards > 1:
                whole, before = rows or (len(batch[1]), 0)
                first, last = rows_of(shard, shards, whole, objective.rows_together)
                part = tuple(each[first - before : last - before] for each in batch)
            if not (valid_of(part) if counts is None or shards > 1 else counts[micro]):
                continue
            ids, targets, own = objective.inputs(part)
            calls.append((ids, targets, {**common, "micro": micro, **({"first_row": first} if first else {}), **own}))
        leaves.append(Leaf(shard, calls))
    return leaves


def micro_batches(
    batches: Sequence[Batch], t: int, settings: TrainSettings, objective: CrossEntropy | None = None
) -> tuple[list[MicroBatch], int]:
    """(ids, targets, keywords) of each pass through the core that update t makes of its micro-batches, and how many
    targets count in all. What has none is left out."""
    objective = CrossEntropy(settings) if objective is None else objective
    counts = [valid_of(batch) for batch in batches]
    units = sum(map(objective.units, batches, counts))
    leaves = leaves_of(batches, t, settings, objective, units, range(settings.shards or 1), counts)
    return [call for leaf in leaves for call in leaf.calls], sum(counts)
