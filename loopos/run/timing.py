"""How long the parts of a run take, found out on a few of its own batches before its first update."""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from loopos.data.batches import IGNORE
from loopos.data.held_out import spread
from loopos.files import durable
from loopos.optim.training import for_training

from .leaves import micro_batches
from .objectives import CrossEntropy, plain_inputs
from .settings import TrainSettings

PROBES = 3  # passes that are timed, after one to warm up
SHARE = 20  # one pass in so many of the run, at most, is timed
LOOKED_AT = 16  # micro-batches whose sizes stand for those of the run
SAMPLE = 8 << 20  # bytes that are written to learn how fast the disk is
PIECE = 1 << 20  # of them at once
SYNCS = 6  # of a checkpoint: four files, its folder, and the one that this is in


def due(every: int | None, first: int, total: int) -> int:
    """How often something happens that happens after every ``every``-th update and at the end, in a run that has
    ``first`` of its ``total`` updates behind it."""
    if total <= first:
        return 0
    return (total // every - first // every + (total % every != 0)) if every else 1


def update_seconds(
    model: Any, settings: TrainSettings, source: Any, first: int, total: int, moments: float, objective: Any = None
) -> float:
    """Of one update, the mean over the run: that of its batches, of passes on some of them, and of the optimizer.

    moments: numbers that the optimizer keeps for each that is trained. Its step is made at the rate 0 by SGD, which
    keeps none, so that no bit changes and no second moments are held: an optimizer that reads and writes each number
    once waits for the memory, so its time is that of SGD, times what it moves. A batch that is fetched here is fetched
    again in its update."""
    chosen = [first + at for at in spread(total - first, LOOKED_AT)]
    whole = replace(settings, shards=1)
    fetching, sizes = 0.0, []

    def calls(t: int, batch: Any) -> list:
        """At most one. It is made when it is needed: pictures as numbers of the model's dtype are large."""
        return micro_batches([batch], t, whole, objective)[0]

    for t in chosen:  # none of them is kept
        began = time.perf_counter()
        batch = source.batch(t, 0)
        fetching += time.perf_counter() - began
        sizes.append(sum(ids.size for ids, _, _ in calls(t, batch)))
    fetching /= len(chosen)
    learned = [i for i, size in enumerate(sizes) if size]
    if not learned:
        return fetching * settings.grad_accum
    positions = sum(sizes) / len(sizes)
    asked = min(PROBES, max(1, (total - first) * settings.grad_accum // SHARE))
    timed = [learned[at] for at in spread(len(learned), asked)]
    widest = max(learned, key=sizes.__getitem__)  # warms up the memory of them all

    core, rule = model._core, settings.update_rule()
    moved = 1.0  # as a multiple of weight and gradient read, weight written
    if rule["rule"] != "muon":  # whose products take the time
        moved += 2 / 3 * moments
        rule["rule"] = "sgd"
    with model.lock:
        rates = []
        for i in (widest, *timed):
            ids, targets, keywords = calls(chosen[i], source.batch(chosen[i], 0))[0]
            began = time.perf_counter()
            core.accumulate(ids, targets, **keywords, add=False)
            rates.append((time.perf_counter() - began) / ids.size)
        optimizer = for_training(model=model, **rule)
        for _ in range(2):  # the first warms up
            began = time.perf_counter()
            norm, passed = core.grad_norm(), time.perf_counter()
            optimizer.step_core(0.0, 1.0, norm)
            step = passed - began + moved * (time.perf_counter() - passed)
    return settings.grad_accum * (fetching + positions * statistics.median(rates[1:])) + step


def evaluation_seconds(model: Any, batches: Iterable[Any], objective: CrossEntropy | None = None) -> float:
    """Of one evaluation over ``batches``."""
    began = time.perf_counter()
    positions, first = 0, None
    for batch in batches:
        positions, first = positions + batch[0].size, batch if first is None else first
    if first is None:
        return 0.0
    fetched = time.perf_counter()
    with model.lock:
        for _ in range(2):  # the first warms up
            passing = time.perf_counter()
            if objective is None:
                inputs, targets, more = plain_inputs(first)
                model._core.loss(inputs, targets, IGNORE, **more)
            else:
                objective.pass_over(model._core, first)
            passed = time.perf_counter()
    return fetched - began + (passed - passing) * positions / first[0].size


def checkpoint_seconds(folder: str | os.PathLike, size: int) -> float:
    """Of a checkpoint of ``size`` bytes on the disk where ``folder`` is or will be: bytes are looked at, hashed,
    written and synced there, in a file without a name. OSError when that cannot be done."""
    place = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.is_dir())
    pieces = max(1, min(size, SAMPLE) // PIECE)
    sample = np.frombuffer(np.random.default_rng(0).bytes(4 * (min(size, PIECE) // 4)), np.float32)
    with durable.explained("try how long a checkpoint takes", place), tempfile.TemporaryFile(dir=place) as file:
        began = time.perf_counter()
        for _ in range(pieces):
            np.isfinite(sample).all()
            hashlib.sha256(sample)
            file.write(sample)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter()
        file.write(b" ")
        file.flush()
        os.fsync(file.fileno())
        synced = time.perf_counter()
    return (written - began) * size / max(1, pieces * sample.nbytes) + SYNCS * (synced - written)
