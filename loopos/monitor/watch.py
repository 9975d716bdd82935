"""What sits beside a run and looks at its numbers: the monitor, and how far each matrix moves.

It reads and never writes: a run has the same bits with and without it. What it finds depends on the run's numbers, on
log_every and eval_every only, and its state is in the checkpoints: a resumed run finds what the uninterrupted one would
have found.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from loopos import _core

from .monitor import Alarm, Monitor
from .put_back import PutBack

SAMPLED = 1024  # elements, to twice as many, of a matrix that are looked at; of one with fewer, all


class UpdateRatios:
    """rms of an update over rms of its weights, for every tensor of two or more dimensions, and for all of these
    together.

    Of a large matrix some elements stand for the whole, at an even distance that takes in all columns in turn; they are
    copied before the update, so that what is measured is how far the weights did move."""

    def __init__(self, parameters: Mapping[str, np.ndarray]):
        matrices = {name: view for name, view in parameters.items() if view.ndim >= 2 and view.size}
        self._names = list(matrices)
        self._samples = [_sample(view) for view in matrices.values()]
        sizes = [sample.size for sample in self._samples]
        self._stand_for = [view.size / size for view, size in zip(matrices.values(), sizes, strict=True)]
        self._all: float | None = None  # of all together, when they were last measured
        starts = np.cumsum(sizes[:-1], dtype=int)
        self._before, self._spare = np.empty(sum(sizes)), np.empty(sum(sizes))
        self._named, self._spare_named = (
            dict(zip(self._names, np.split(buffer, starts), strict=False))  # of no matrix there is one piece
            for buffer in (self._before, self._spare)
        )

    def remember(self) -> None:
        """The weights as they are before the update."""
        self._before, self._spare = self._spare, self._before
        self._named, self._spare_named = self._spare_named, self._named
        _core.copy_samples(self._samples, self._before)

    def remembered(self) -> dict[str, np.ndarray]:
        """The samples that were copied, by name; valid until ``remember`` has been called twice."""
        return self._named

    def measure(self) -> dict[str, float]:
        """Since ``remember``, by name. A matrix of zeros has no ratio."""
        ratios, self._all = _core.moved_samples(self._samples, self._before, self._stand_for)
        return {name: ratio for name, ratio in zip(self._names, ratios, strict=True) if ratio is not None}

    def told(self, measured: dict[str, float]) -> dict[str, Any]:
        """What a Monitor is told of the latest ``measure``; nothing where that found no ratio, or was not made."""
        return {"update_ratio": measured, "moved": self._all} if measured else {}


def _sample(view: np.ndarray) -> np.ndarray:
    """A view of less than 2 SAMPLED elements of a contiguous array."""
    step, columns = max(1, view.size // SAMPLED), view.shape[-1]
    while math.gcd(step, columns) > 1:  # with a common divisor the same columns would come again and again
        step += 1
    return view.reshape(-1)[::step]


class Watch:
    """One run's monitor. ``before`` and ``after`` enclose each update; ``findings`` are those of this call."""

    def __init__(self, model: Any, log_every: int, saved: Any = None, *, plain: bool = True):
        """plain: whether the loss is a cross-entropy over what the model gives. saved: :meth:`state` out of the
        checkpoint that the run goes on from; None of one that was written before there was a monitor. One that cannot
        be used is a RuntimeWarning: the monitor then begins anew."""
        vocab_size = model.config.outputs if plain else 1
        self.findings: list[Alarm] = []
        self._monitor = Monitor(vocab_size=vocab_size if vocab_size > 1 else None)
        self._ratios, self._every = UpdateRatios(model._core.parameters(True, writable=False)), log_every
        self._waiting: list[dict[str, Any]] = []  # findings for the next line of the log
        self._measured: dict[str, float] = {}
        self._due = False
        self._early: list[Alarm] = []  # of the step that is being done
        saved = dict(saved) if isinstance(saved, Mapping) else saved
        self._put_back = PutBack(saved.pop("put_back", None) if isinstance(saved, dict) else None)
        if saved is not None:
            try:
                self._monitor.load_state_dict(saved)
            except (ValueError, TypeError, LookupError) as error:
                warnings.warn(f"train: the monitor begins anew: {error}", RuntimeWarning, stacklevel=4)

    def before(self, step: int) -> None:
        """``step`` (from 1) is about to be done. Ratios are measured in the steps that log_every names, and in no other
        that happens to be logged, so that they do not depend on where a run was stopped."""
        self._measured, self._due = {}, step == 1 or step % self._every == 0
        if self._due:
            self._ratios.remember()
            self._early = self._put_back.before(step, self._ratios.remembered())

    def after(self, step: int, update: Any, rate: float) -> list[Alarm]:
        """What is implausible in the update just done."""
        calm = update.applied and not self._due and 0 <= rate < math.inf
        if calm and self._monitor.settles(update.loss, update.grad_norm):
            return []
        if self._due and update.applied:
            self._measured = self._ratios.measure()
            self._put_back.after(self._measured)
        elif not update.applied:
            self._put_back.forget()
        found = self._monitor.observe(
            step,
            loss=update.loss,
            grad_norm=update.grad_norm,
            learning_rate=rate,
            valid_tokens=update.valid_tokens,
            **self._ratios.told(self._measured),
        )
        if self._early:
            found, self._early = self._early + found, []
        return self._keep(found) if found else found

    def evaluated(self, step: int, loss: float) -> list[Alarm]:
        """What is implausible in an evaluation that eval_every names."""
        return self._keep(self._monitor.observe(step, eval_loss=loss))

    def notes(self) -> dict[str, Any]:
        """What a line of metrics.jsonl has besides the entry of the history: "update_ratio" of that step, and the
        "findings" since the line before. They are given once."""
        ratios, waiting = self._measured, self._waiting
        self._measured, self._waiting = {}, []
        return ({"update_ratio": ratios} if ratios else {}) | ({"findings": waiting} if waiting else {})

    def state(self) -> dict[str, Any]:
        """For a checkpoint, before which ``notes`` were written down."""
        return self._monitor.state_dict() | {"put_back": self._put_back.state()}

    def _keep(self, found: list[Alarm]) -> list[Alarm]:
        self.findings += found
        self._waiting += [_plain(alarm) for alarm in found]
        return found


def _plain(alarm: Alarm) -> dict[str, Any]:
    """Safe for JSON, which has no NaN: None for a value that is not finite."""
    return vars(alarm) | {"value": alarm.value if math.isfinite(alarm.value) else None}
