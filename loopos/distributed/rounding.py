"""Gradients as bfloat16 on the wire, with what rounding took away added to the next ones.

Every rank rounds its sums g to bfloat16 before they are sent, and keeps what that took away: it sends
q = bfloat16(g + e), and e becomes g + e - q (error feedback: Seide et al. 2014; Karimireddy et al. 2019). So over the
updates all of a gradient arrives. The sum of each piece, added in float32 along the tree, is rounded in the same way
before it is sent to all, and every rank computes with what was sent. Half of the bytes, then, and other bits for
another number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from loopos import _core

from .reduction import Exact, Lanes, Plain, Ranges
from .tree import Node


class Feedback:
    """What rounding has taken from the numbers of one place."""

    def __init__(self, size: int):
        self.error = np.zeros(size, np.float32)
        self._lost = False

    def round(self, numbers: np.ndarray, out: np.ndarray, start: int = 0) -> None:
        """Into ``out``, the bits of these numbers, which begin at ``start``, and of what is owed."""
        error = self.error[start : start + len(numbers)]
        if not _core.round_with_owed(numbers, error, out):  # the gate looks at what comes of it
            error.fill(0)
            self._lost = True

    def settle(self) -> None:
        """All pieces of an update are rounded. Of one that is refused, for a number that is not finite, nothing is
        owed."""
        if self._lost:
            self.error.fill(0)
        self._lost = False


class Rounded(Plain):
    """The exchanges of one buffer of float32 numbers, as bfloat16. The methods of Exact."""

    def __init__(
        self,
        lanes: Lanes,
        mpi: Any,
        wait: Callable[[Any], None],
        buffer: np.ndarray,
        shards: int,
        bucket: int | None = None,
        owned: Ranges | None = None,
    ):
        """The arguments of Exact; mpi: mpi4py.MPI."""
        self._buffer, self._wire = buffer, np.zeros(buffer.size, np.uint16)
        self._exact = Exact(lanes, mpi.UINT16_T, wait, self._wire, shards, bucket, self, owned)
        self.starts_at, self.advance = self._exact.starts_at, self._exact.advance
        self._own: list[Feedback] = []  # of each sum of this rank
        self._others: list[np.ndarray] = []
        self._sum = Feedback(buffer.size)
        self._read = np.empty(0, np.float32)

    def begin(self, sums: Sequence[tuple[Node, np.ndarray]], complete: Callable[[int, int], None]) -> None:
        while len(self._own) < len(sums):
            self._own.append(Feedback(self._buffer.size))
        while len(self._others) < len(sums) - 1:
            self._others.append(np.empty_like(self._wire))
        sent = [*self._others[: len(sums) - 1], self._wire]

        def round_piece(start: int, stop: int) -> None:
            complete(start, stop)
            for (_, numbers), feedback, bits in zip(sums, self._own, sent, strict=False):
                feedback.round(numbers[start:stop], bits[start:stop], start)

        self._exact.begin([(node, bits) for (node, _), bits in zip(sums, sent, strict=True)], round_piece)

    def finish(self) -> None:
        self._exact.finish()
        for feedback in (*self._own, self._sum):
            feedback.settle()

    def read(self, sent: np.ndarray, start: int, stop: int) -> np.ndarray:
        if self._read.size < sent.size:
            self._read = np.empty(sent.size, np.float32)
        numbers = self._read[start:stop]
        _core.from_bfloat16(sent[start:stop], numbers)
        return numbers

    def write(self, numbers: np.ndarray, buffer: np.ndarray, start: int) -> None:
        self._sum.round(numbers, buffer[start : start + len(numbers)], start)

    def arrived(self, start: int, stop: int) -> None:
        _core.from_bfloat16(self._wire[start:stop], self._buffer[start:stop])
