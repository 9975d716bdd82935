"""The loss of a text, window by window, so that two models can be compared on each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopos.data.batches import IGNORE
from loopos.model import Model

from .finite import losses


@dataclass(frozen=True)
class WindowLosses:
    """sums: of the losses of each window (N,) in nats; counts: its tokens."""

    sums: np.ndarray
    counts: np.ndarray

    @property
    def loss(self) -> float:
        return float(self.sums.sum() / self.counts.sum())

    @property
    def tokens(self) -> int:
        return int(self.counts.sum())


def window_losses(model: Model, batches: Iterable[tuple[Any, Any]]) -> WindowLosses:
    """Of batches of (ids, targets), a window a row."""
    sums, counts = [], []
    for ids, targets in batches:
        sums.append(losses(model, ids, targets).sum(axis=1))
        counts.append((targets != IGNORE).sum(axis=1))
    return WindowLosses(np.concatenate(sums), np.concatenate(counts))
