"""What a program is here: a model, its optimizers, a batch, a loss, and a step of its own loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import loopos


@dataclass
class Program:
    """step: one step of the loop as its author wrote it; more: keywords for the doctor."""

    model: Any
    optimizer: Any
    batch: Any
    loss_fn: Callable[[Any, Any], Any]
    step: Callable[[], Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    scaler: Any = None

    def plain_step(self) -> Any:
        """zero_grad, loss, backward, step: of every optimizer."""
        optimizers = self.optimizer if isinstance(self.optimizer, list) else [self.optimizer]
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = self.loss_fn(self.model, self.batch)
        loss = getattr(loss, "loss", loss)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss

    def examined(self) -> Any:
        """What the doctor says of it."""
        step = self.step or self.plain_step
        return loopos.watch.doctor(self.model, self.optimizer, self.batch, self.loss_fn, step=step, **self.more)
