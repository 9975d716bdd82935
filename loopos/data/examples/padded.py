"""Rows of unequal length as one batch: filled up on the right, where a causal model's other positions never look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loopos.data.held_out import IGNORE

_WIDTH = 32  # rows are filled up to a multiple of it, so that batches have few different sizes


def padded(rows: Sequence[tuple[np.ndarray, np.ndarray]], most: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, targets), int64 (B, T), of pairs (ids, targets) (n,), no longer than ``most``; what fills up is never a
    target."""
    longest = max(len(ids) for ids, _ in rows)
    width = min(most, -(-longest // _WIDTH) * _WIDTH)
    ids, targets = np.zeros((len(rows), width), np.int64), np.full((len(rows), width), IGNORE, np.int64)
    for row, (shown, learned) in enumerate(rows):
        ids[row, : len(shown)], targets[row, : len(shown)] = shown, learned
    return ids, targets
