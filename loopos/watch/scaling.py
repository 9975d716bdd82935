"""A step under a torch.amp.GradScaler: which gradients are the scale's doing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

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
