"""Rows of unequal length as one batch: filled up on the right, where a causal model's other positions never look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loopos.data.held_out import IGNORE

_WIDTH = 32  # rows are filled up to a multiple of it, so that batches have few different sizes


def width(longest: int, most: int) -> int:
    """Positions of a batch whose longest row has ``longest``, where a row has ``most`` at most."""
    return min(most, -(-longest // _WIDTH) * _WIDTH)


def padded(
    rows: Sequence[tuple[np.ndarray, np.ndarray]], most: int, part: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """(ids, targets), int64 (B, T), of pairs (ids, targets) (n,), no longer than ``most``; what fills up is never a
    target. part: which rows are wanted of these, which are as wide as all of them need."""
    longest, rows = max(len(ids) for ids, _ in rows), rows[part]
    shape = len(rows), width(longest, most)
    ids, targets = np.zeros(shape, np.int64), np.full(shape, IGNORE, np.int64)
    for row, (shown, learned) in enumerate(rows):
        ids[row, : len(shown)], targets[row, : len(shown)] = shown, learned
    return ids, targets
