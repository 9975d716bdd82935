"""What a run will take, before it takes it: memory by the plan of the core, time by a few passes that are not kept."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loopos import _core
from loopos.distributed.alone import Alone
from loopos.distributed.tree import copies_of
from loopos.optim.base import MOMENTS
from loopos.optim.training import for_run
from loopos.precision import in_words

from . import timing
from .objectives import ANOTHER, SELF, CrossEntropy
from .settings import TrainSettings

MEGABYTE = 1e6
AHEAD = 2  # batches of pictures that wait


@dataclass(frozen=True)
class Memory:
    """Bytes. now: what the process holds already, weights and data among it; the others are still to come."""

    now: int
    gradients: int
    moments: int
    activations: int
    batches: int
    snapshot: int = 0  # of on_nonfinite="rewind"
    teacher: int = 0  # what it answers, and its passes where it is another model
    pictures: int = 0  # of the batches, as they are kept and as numbers
    checks: int = 0  # of the doctor's quick round, before the first update
    sums: int = 0  # of shards' gradients, which wait to be added to others
    exchange: int = 0  # with other processes

    @property
    def to_come(self) -> int:
        return sum(value for name, value in vars(self).items() if name != "now")

    @property
    def peak(self) -> int:
        return self.now + self.to_come

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON."""
        return {"memory_bytes": vars(self) | {"peak": self.peak}}

    def __str__(self) -> str:
        parts = {name: value for name, value in vars(self).items() if name != "now" and value >= MEGABYTE / 2}
        listed = "".join(f", {name} {value / MEGABYTE:,.0f}" for name, value in parts.items())
        return f"memory about {self.peak / MEGABYTE:,.0f} MB at its peak (held now {self.now / MEGABYTE:,.0f}{listed})"


@dataclass(frozen=True)
class Forecast:
    """update, evaluation, checkpoint: seconds of one; updates, evaluations, checkpoints: how many, at most where the
    run may end by itself or keeps the best; memory as above; precision, products: as of a Model."""

    memory: Memory
    update: float
    updates: int
    evaluation: float = 0.0
    evaluations: int = 0
    checkpoint: float = 0.0
    checkpoints: int = 0
    precision: str = "float32"
    products: str = "fma"

    @property
    def seconds(self) -> float:
        kinds = "update", "evaluation", "checkpoint"
        return sum(getattr(self, kind) * getattr(self, f"{kind}s") for kind in kinds)

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON."""
        own = {name: value for name, value in vars(self).items() if name != "memory"}
        return self.memory.to_dict() | {"seconds": self.seconds, **own}

    def __str__(self) -> str:
        parts = [
            f"{number} {kind if number == 1 else kind + 's'} of {seconds:.3g} s"
            for kind in ("update", "evaluation", "checkpoint")
            for number, seconds in [(getattr(self, f"{kind}s"), getattr(self, kind))]
            if number or kind == "update"
        ]
        exact = f"; {in_words(self.precision, self.products)}" if self.precision != "float32" else ""
        return f"forecast: {self.memory}; time about {_duration(self.seconds)} ({', '.join(parts)}){exact}"


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


def resident_bytes() -> int:
    """Of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory_of(
    model: Any,
    settings: Mapping[str, Any],
    seq_len: int,
    now: int | None = None,
    held: int | None = None,
    teacher: Any = None,
    ranks: Alone | None = None,
) -> Memory:
    """Of a run of ``model`` with ``settings`` of train, whose batches are (batch_size, seq_len), of pairs twice as many
    rows. now: resident bytes before it, held: those of them that earlier passes of this model have left, which are used
    again; None: as it is. teacher: another Model, or what train is given beside; where the settings tell of another one
    and none is given, one like ``model`` stands for it. ranks: the processes of the run, of which this is one; None:
    there is no other."""
    ranks, shards = Alone() if ranks is None else ranks, settings.get("shards") or 1
    trained, size = model.parameters(trainable=True), np.dtype(model.dtype).itemsize
    numbers = sum(view.size for view in trained.values())
    moments = int(size * MOMENTS[settings.get("moments", "float32")] * _moments(trained, settings))
    if ranks.shards_optimizer:
        moments //= ranks.size
    copies = 0 if ranks.fast else copies_of(shards, ranks.shards(shards))
    task, distill = settings["task"], settings["distill"]
    shape = settings["batch_size"] * (2 if task == "dpo" else 1), seq_len
    rows = shape[0] * shape[1]
    compared = distill is not None and distill["loss"] == "kl"
    scored = distill is None or compared or distill["cross_entropy"] > 0
    planned = size * numbers + int(model._core.workspace_bytes(*shape, True, scored=scored, compared=compared))
    left = min(planned, int(model._core.held_bytes()) if held is None else held)
    return Memory(
        now=resident_bytes() if now is None else now,
        gradients=max(0, size * numbers - left),
        moments=moments,
        activations=planned - size * numbers - max(0, left - size * numbers),
        batches=2 * 8 * rows * settings["grad_accum"],
        snapshot=(size * numbers + moments) if settings["on_nonfinite"] == "rewind" else 0,
        teacher=_of_teacher(model, teacher, settings, shape),
        pictures=_of_pictures(model, settings),
        sums=copies * size * numbers,
        exchange=ranks.exchange_bytes(numbers, size, shards),
    )


def _of_pictures(model: Any, settings: Mapping[str, Any]) -> int:
    """Bytes of the pictures of an update: each as it is kept, a byte a number, those that are made ahead among them,
    and in the model's dtype, once normalised and once on the way there."""
    vision = getattr(model, "vision", None)
    if vision is None:
        return 0
    numbers = settings["batch_size"] * vision.height * vision.width * vision.channels
    size, passes = np.dtype(model.dtype).itemsize, settings["grad_accum"]
    return numbers * (passes + AHEAD + size * (passes + 1))


def _of_teacher(model: Any, teacher: Any, settings: Mapping[str, Any], shape: tuple[int, int]) -> int:
    """Bytes beside the run's own for what is compared with: the hidden states that a micro-batch keeps of a teacher,
    and the workspace of a model that is not the run's own, whose passes use that of training again."""
    taught = settings["distill"] is not None
    other = model if settings["teacher"] == ANOTHER and teacher in (None, ANOTHER) else teacher
    own = other is None or other == SELF
    asked = model if own else other
    answers = shape[0] * shape[1] * asked.config.d_model * np.dtype(asked.dtype).itemsize if taught else 0
    if own:
        return answers
    held = 0 if other is model else int(other._core.held_bytes())
    return answers + max(0, int(other._core.workspace_bytes(*shape, False, scored=not taught)) - held)


def _moments(trained: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> int:
    """How many numbers the optimizer keeps: asked of one that is made over a single number a tensor."""
    if not trained:
        return 0
    ones = {name: np.zeros((1,) * view.ndim, np.float32) for name, view in trained.items()}
    state = for_run(settings["optimizer"], ones).state_dict()
    return sum(trained[name].size for key in state for name in [key.partition(".")[2]] if name in trained)


def refuse_unfitting(
    model: Any, settings: TrainSettings, seq_len: int, teacher: Any = None, ranks: Alone | None = None
) -> None:
    """MemoryError when gradients, moments, activations and answers of a teacher do not fit in the memory that is left.
    teacher, ranks: as of :func:`memory_of`."""
    memory = memory_of(model, settings.to_dict(), seq_len, 0, teacher=teacher, ranks=ranks)
    available = _core.available_bytes()
    if memory.to_come > available:
        taught = f", a teacher's passes ({memory.teacher / MEGABYTE:,.0f} MB)" if memory.teacher else ""
        taught += f", sums of shards ({memory.sums / MEGABYTE:,.0f} MB)" if memory.sums else ""
        taught += f", exchanges of ranks ({memory.exchange / MEGABYTE:,.0f} MB)" if memory.exchange else ""
        taught += f", pictures ({memory.pictures / MEGABYTE:,.0f} MB)" if memory.pictures else ""
        raise MemoryError(
            f"train: gradients ({memory.gradients / MEGABYTE:,.0f} MB), moments ({memory.moments / MEGABYTE:,.0f} MB)"
            f"{taught} and activations ({memory.activations / MEGABYTE:,.0f} MB) of batch_size {settings.batch_size} "
            f"and seq_len {seq_len} take {memory.to_come / MEGABYTE:,.0f} MB, and {available / MEGABYTE:,.0f} MB are "
            "available; lower batch_size or seq_len (grad_accum makes up for it), freeze a part of the model, or keep "
            "fewer moments: moments='bfloat16' or '8bit', or optimizer='lion' or 'sgd'"
        )


def of_run(
    model: Any,
    settings: TrainSettings,
    sources: Any,
    output_dir: str | os.PathLike | None,
    first: int,
    total: int,
    now: int | None = None,
    held: int | None = None,
    objective: CrossEntropy | None = None,
    ranks: Alone | None = None,
) -> Forecast:
    """Of the updates from ``first`` to ``total`` of a run of train with these settings and these sources. A few passes
    are made on its batches, and no bit of the model changes. now, held, ranks: as of :func:`memory_of`. objective: what
    the run minimises; None: next-token cross-entropy."""
    settings_, trained = settings.to_dict(), model.parameters(trainable=True)
    settings_["batch_size"] = getattr(sources.train, "batch_size", settings.batch_size)
    seq_len = getattr(sources.train, "seq_len", None) or settings.seq_len or model.config.context_length
    teacher = None if objective is None else objective.teacher
    memory = memory_of(model, settings_, seq_len, now, held, teacher, ranks)
    moments = _moments(trained, settings_) / max(1, sum(view.size for view in trained.values()))
    update = (
        timing.update_seconds(model, settings, sources.train, first, total, moments, objective)
        if total > first
        else 0.0
    )
    found = Forecast(memory, update, total - first, precision=model.precision, products=model.products)
    if sources.eval is not None and total > first:
        evaluations = timing.due(settings.eval_every, first, total)
        found = replace(
            found, evaluation=timing.evaluation_seconds(model, sources.eval, objective), evaluations=evaluations
        )
    if output_dir is not None and total > first:
        found = with_checkpoints(found, model, output_dir, settings.save_every, settings.keep_best, first)
    return found


def with_checkpoints(
    found: Forecast, model: Any, output_dir: str | os.PathLike, save_every: int | None, keep_best: bool, first: int = 0
) -> Forecast:
    """The forecast of a run that keeps checkpoints in ``output_dir``, the best ones too where ``keep_best``."""
    weights = sum(view.nbytes for view in model.parameters().values())
    seconds = timing.checkpoint_seconds(output_dir, weights + found.memory.moments + found.memory.snapshot)
    times = timing.due(save_every, first, first + found.updates) + found.evaluations * keep_best
    return replace(found, checkpoint=seconds, checkpoints=times)
