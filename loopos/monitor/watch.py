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

from .monitor import Alarm, Monitor
from .movement import Movement, UpdateRatios
from .put_back import PutBack


class Watch:
    """One run's monitor. ``before`` and ``after`` enclose each update; ``findings`` are those of this call."""

    def __init__(self, model: Any, log_every: int, saved: Any = None, *, plain: bool = True):
        """plain: whether the loss is a cross-entropy over what the model gives. saved: :meth:`state` out of the
        checkpoint that the run goes on from; None of one that was written before there was a monitor. One that cannot
        be used is a RuntimeWarning: the monitor then begins anew."""
        vocab_size = model.config.outputs if plain else 1
        self.findings: list[Alarm] = []
        self._monitor = Monitor(vocab_size=vocab_size if vocab_size > 1 else None)
        parameters = model._core.parameters(True, writable=False)
        self._ratios, self._every = UpdateRatios(parameters), log_every
        self._waiting: list[dict[str, Any]] = []  # findings for the next line of the log
        self._measured: dict[str, float] = {}
        self._due = False
        self._early: list[Alarm] = []  # of the step that is being done
        saved = dict(saved) if isinstance(saved, Mapping) else saved
        self._put_back = PutBack(saved.pop("put_back", None) if isinstance(saved, dict) else None)
        self._movement = Movement(parameters, saved.pop("movement", None) if isinstance(saved, dict) else None)
        if saved is not None:
            try:
                self._monitor.load_state_dict(saved)
            except (ValueError, TypeError, LookupError) as error:
                warnings.warn(f"train: the monitor begins anew: {error}", RuntimeWarning, stacklevel=4)

    def before(self, step: int) -> None:
        """``step`` (from 1) is about to be done. Ratios are measured in the steps that log_every names, and in no other
        that happens to be logged, so that they do not depend on where a run was stopped."""
        self._measured, self._due = {}, step == 1 or step % self._every == 0
        self._movement.before(step, self._due)
        if self._due:
            self._ratios.remember()
            self._early = self._put_back.before(step, self._ratios.remembered())

    def after(self, step: int, update: Any, rate: float, ahead: float = 1.0) -> list[Alarm]:
        """What is implausible in the update just done. ahead: how many times its rate the highest one is that comes."""
        calm = update.applied and not self._due and 0 <= rate < math.inf
        if calm and self._monitor.settles(update.loss, update.grad_norm):
            moved = self._movement.after(step, None, ahead, update.loss, self._monitor.course)
            return self._keep(moved) if moved else moved
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
            **({"update_ratio": self._measured} if self._measured else {}),
        )
        if update.applied:
            moved_far = self._ratios.moved if self._due else None
            found += self._movement.after(step, moved_far, ahead, update.loss, self._monitor.course)
        else:
            found += self._movement.held(step)
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
        more = {"put_back": self._put_back.state(), "movement": self._movement.state()}
        return self._monitor.state_dict() | more

    def _keep(self, found: list[Alarm]) -> list[Alarm]:
        self.findings += found
        self._waiting += [_plain(alarm) for alarm in found]
        return found


def _plain(alarm: Alarm) -> dict[str, Any]:
    """Safe for JSON, which has no NaN: None for a value that is not finite."""
    return vars(alarm) | {"value": alarm.value if math.isfinite(alarm.value) else None}
