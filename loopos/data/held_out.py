"""Evaluation batches from one array of ids: all of it, or a fixed choice of windows where that would take too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from loopos import checks

from .reading import check_ids, token_array

IGNORE = -100  # a target that is not scored


def spread(count: int, chosen: int) -> Sequence[int]:
    """``chosen`` of 0..count-1 at even distances, the first among them; all when ``chosen`` is no less."""
    return range(count) if chosen >= count else [i * count // chosen for i in range(chosen)]


class HeldOut:
    """Evaluation batches from one array of ids: every token but the first is predicted once.

    The windows follow one another in order; in the last one, what lies past the end has target -100. All batches are
    (rows, T) with the same T and, but for the last, the same number of rows.

    tokens: about how many are predicted: whole windows at even distances, the same ones each time, so that losses of
    different steps can be compared; at least one window. None, or more than there are: all."""

    def __init__(
        self,
        ids: Any,
        *,
        seq_len: int,
        batch_size: int,
        vocab_size: int,
        name: str = "eval_data",
        tokens: int | None = None,
    ):
        """ids (N,): integers, N >= 2 (else ValueError), all within 0..vocab_size-1 (else IndexError)."""
        self.ids = token_array(ids, name)
        self.seq_len = checks.count("train", "seq_len", seq_len)
        self.batch_size = checks.count("train", "batch_size", batch_size)
        if len(self.ids) < 2:
            raise ValueError(
                f"{name}: {len(self.ids)} tokens are too few, evaluation needs at least 2: one to read, one to predict"
            )
        check_ids(self.ids, vocab_size, name)
        windows = -(-(len(self.ids) - 1) // self.seq_len)
        self.chosen = spread(windows, windows if tokens is None else max(1, tokens // self.seq_len))
        self.share = len(self.chosen) / windows

    @property
    def windows(self) -> int:
        """That are scored."""
        return len(self.chosen)

    def __len__(self) -> int:
        return -(-self.windows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (ids, targets), int64 (rows, seq_len)."""
        return map(self.one, range(len(self)))

    def one(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch ``number``, from 0."""
        length = self.seq_len
        chosen = self.chosen[number * self.batch_size : (number + 1) * self.batch_size]
        ids = np.zeros((len(chosen), length), np.int64)  # what fills the end is never scored, nor seen by what is
        targets = np.full((len(chosen), length), IGNORE, np.int64)
        for row, window in enumerate(chosen):
            piece = self.ids[window * length : (window + 1) * length + 1]
            predicted = len(piece) - 1
            ids[row, :predicted], targets[row, :predicted] = piece[:-1], piece[1:]
        return ids, targets
