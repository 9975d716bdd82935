"""What a run will take, before it takes it: memory by the plan of the core, time by a few updates that are not kept."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from loopos import _core
from loopos.optim.training import for_run, for_training

from .settings import TrainSettings

PROBES = 3  # updates that are timed, after one to warm up
MEGABYTE = 1e6


@dataclass(frozen=True)
class Memory:
    """Bytes. now: what the process holds already, weights and data among it; the others are still to come."""

    now: int
    gradients: int
    moments: int
    activations: int
    batches: int
    snapshot: int = 0  # of on_nonfinite="rewind"

    @property
    def to_come(self) -> int:
        return self.gradients + self.moments + self.activations + self.batches + self.snapshot

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
    """update, evaluation: seconds of one; updates, evaluations: how many; memory as above."""

    memory: Memory
    update: float
    updates: int
    evaluation: float = 0.0
    evaluations: int = 0

    @property
    def seconds(self) -> float:
        return self.update * self.updates + self.evaluation * self.evaluations

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON."""
        own = {name: value for name, value in vars(self).items() if name != "memory"}
        return self.memory.to_dict() | {"seconds": self.seconds, **own}

    def __str__(self) -> str:
        scored = f" and {self.evaluations} evaluations of {self.evaluation:.1f} s" if self.evaluations else ""
        time_ = f"time about {_duration(self.seconds)} ({self.updates} updates of {self.update:.3g} s{scored})"
        return f"forecast: {self.memory}; {time_}"


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
    model: Any, settings: Mapping[str, Any], seq_len: int, now: int | None = None, held: int | None = None
) -> Memory:
    """Of a run of ``model`` with ``settings`` of train, whose batches are (batch_size, seq_len). now: resident bytes
    before it, held: those of them that earlier passes of this model have left, which are used again; None: as it is."""
    trained, size = model.parameters(trainable=True), np.dtype(model.dtype).itemsize
    numbers = sum(view.size for view in trained.values())
    moments = size * _moments(trained, settings)
    rows = settings["batch_size"] * seq_len
    planned = size * numbers + int(model._core.workspace_bytes(settings["batch_size"], seq_len, True))
    left = min(planned, int(model._core.held_bytes()) if held is None else held)
    return Memory(
        now=resident_bytes() if now is None else now,
        gradients=max(0, size * numbers - left),
        moments=moments,
        activations=planned - size * numbers - max(0, left - size * numbers),
        batches=2 * 8 * rows * settings["grad_accum"],
        snapshot=(size * numbers + moments) if settings["on_nonfinite"] == "rewind" else 0,
    )


def _moments(trained: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> int:
    """How many numbers the optimizer keeps: asked of one that is made over a single number a tensor."""
    if not trained:
        return 0
    ones = {name: np.zeros((1,) * view.ndim, np.float32) for name, view in trained.items()}
    state = for_run(settings["optimizer"], ones).state_dict()
    return sum(trained[name].size for key in state for name in [key.partition(".")[2]] if name in trained)


def refuse_unfitting(model: Any, settings: TrainSettings, seq_len: int) -> None:
    """MemoryError when gradients, moments and activations of a run do not fit in the memory that is left."""
    memory, available = memory_of(model, settings.to_dict(), seq_len, now=0), _core.available_bytes()
    if memory.to_come > available:
        raise MemoryError(
            f"train: gradients ({memory.gradients / MEGABYTE:,.0f} MB), moments ({memory.moments / MEGABYTE:,.0f} MB) "
            f"and activations ({memory.activations / MEGABYTE:,.0f} MB) of batch_size {settings.batch_size} and "
            f"seq_len {seq_len} take {memory.to_come / MEGABYTE:,.0f} MB, and {available / MEGABYTE:,.0f} MB are "
            "available; lower batch_size or seq_len (grad_accum makes up for it), freeze a part of the model, or take "
            "optimizer='sgd' or 'lion', which keep fewer moments"
        )


def time_of(model: Any, settings: Mapping[str, Any], seq_len: int) -> tuple[float, float]:
    """Seconds of one update, and of the forward pass of one batch. Takes a few updates on random ids at the rate 0,
    with an optimizer of their own: no bit of a weight changes, and no second moments are held: an optimizer that reads
    and writes each number once waits for the memory, so its time is that of SGD, times what it moves."""
    rng, rows = np.random.default_rng(0), settings["batch_size"]
    ids = rng.integers(0, model.config.vocab_size, (rows, seq_len))
    targets = rng.integers(0, model.config.vocab_size, (rows, seq_len))
    rule = TrainSettings(**{each.name: settings[each.name] for each in fields(TrainSettings)}).update_rule()
    moved = 1.0  # as a multiple of weight and gradient read, weight written
    if rule["rule"] != "muon":  # whose products take the time
        trained = model.parameters(trainable=True)
        numbers = sum(view.size for view in trained.values())
        moved += 2 / 3 * _moments(trained, settings) / max(1, numbers)
        rule["rule"] = "sgd"
    with model.lock:
        optimizer = for_training(model=model, **rule)
        updates, forwards = [], []
        for probe in range(PROBES + 1):
            began = time.perf_counter()
            for micro in range(settings["grad_accum"]):
                keywords = {"scale": 1 / targets.size, "step": probe, "micro": micro, "seed": settings["seed"]}
                model._core.accumulate(ids, targets, **keywords, add=micro > 0)
            norm, passed = model._core.grad_norm(), time.perf_counter()
            optimizer.step_core(0.0, 1.0, norm)
            ended = time.perf_counter()
            updates.append(passed - began + moved * (ended - passed))
        for _ in range(2):
            began = time.perf_counter()
            model._core.loss(ids, targets)
            forwards.append(time.perf_counter() - began)
    return float(np.median(updates[1:])), forwards[-1]
