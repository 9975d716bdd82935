"""A step under a torch.amp.GradScaler: which gradients are the scale's doing, and what the loss is without it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from .calls import Call
from .finite import Norms, parameters_of

_IN_A_ROW = "_loopos_skipped_in_a_row"  # lives with the optimizer: a Scaled is made anew in every step


class Scaled:
    """The gradients of one step, unscaled."""

    def __init__(self, scaler: Any, optimizers: Sequence[torch.optim.Optimizer]):
        self._scaler = scaler
        self._bad: set[int] = set()
        for each in optimizers:
            gradients = [parameter.grad for parameter in parameters_of([each]) if parameter.grad is not None]
            if gradients and scaler.is_enabled():
                scaler.unscale_(each)
                if Norms(gradients).bad:
                    self._bad.add(id(each))
            if id(each) not in self._bad:
                setattr(each, _IN_A_ROW, 0)

    def leaves(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the scaler is going to leave this step out."""
        return id(optimizer) in self._bad

    def in_a_row(self, optimizer: torch.optim.Optimizer) -> int:
        """How many steps it has left out, this one included. One that follows a larger scale is nothing to look at."""
        count = getattr(optimizer, _IN_A_ROW, 0) + 1
        setattr(optimizer, _IN_A_ROW, count)
        return count

    def skip(self, optimizer: torch.optim.Optimizer) -> None:
        self._scaler.step(optimizer)  # which does nothing, and lowers the scale at its update


def unscale(calls: Iterable[Call]) -> None:
    """Within ``optimizer.step``: where a scaler called it, losses as ``backward`` was given them are divided by its
    scale. One that only the scale made infinite is forgotten."""
    given = [call for call in calls if call.of_backward and call.loss is not None]
    scaler = _at_work() if given else None
    for call in given if scaler is not None else ():
        loss, call.of_backward = call.loss / scaler.get_scale(), False
        call.loss = None if math.isinf(float(loss)) else loss


def may_be_the_scale(calls: Iterable[Call]) -> bool:
    """Whether all losses that are not finite are infinities which ``backward`` was given, perhaps under a scale."""
    losses = [(call, float(call.loss)) for call in calls if call.loss is not None]
    return all(call.of_backward and math.isinf(loss) for call, loss in losses if not math.isfinite(loss))


def _at_work() -> Any:
    """The scaler whose ``step`` called the optimizer, None where the program did."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "step" and isinstance(frame.f_locals.get("self"), torch.amp.GradScaler):
            return frame.f_locals["self"]
        frame = frame.f_back
    return None
