"""The gradients of one process's shards, added along the tree as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from .tree import Node, left_of


class Partial:
    """Adds what stands in ``buffer`` after each shard. Copies of it wait until what they are to be added to has come:
    at most one for each level of the tree. They are kept for the next update.

    The last shard may come piece by piece: after :meth:`close` each call of :meth:`complete` makes the sums final in
    one piece."""

    def __init__(self, buffer: np.ndarray, shards: int, run: range, owned: Any = None):
        """buffer (N,): where each shard's gradient is found, and where the last sum is left. run: the shards of this
        process, in whose order they come. owned: of each process the piece of the buffer whose sum it needs, where it
        needs no other."""
        self.owned = owned
        self.buffer, self._left, self._last = buffer, left_of(shards), run.stop - 1
        self._waiting: list[tuple[Node, np.ndarray]] = []
        self._free: list[np.ndarray] = []
        self._to_last: list[np.ndarray] = []  # what the last shard is added to, one after another
        self.exchange: Any = None  # what several processes add their sums with
        self.begun = False  # whether the exchange of this update is
        self.spoiled = False  # a number of the sums of this process was not finite, before they were sent

    def begin(self) -> None:
        """A new update: the copies may be written over."""
        self._free += [array for _, array in self._waiting if array is not self.buffer] + self._to_last
        self._waiting, self._to_last, self.begun, self.spoiled = [], [], False, False

    def give(self, start: int, stop: int) -> None:
        """:meth:`complete`, and a look at the sums before they are sent: afterwards the buffer has what all processes
        gave."""
        self.complete(start, stop)
        self.look(start, stop)

    def look(self, start: int, stop: int) -> None:
        """At this piece of the sums of this process."""
        for _, array in self._waiting:
            piece = array[start:stop]
            with np.errstate(all="ignore"):
                sound = np.isfinite(np.add.reduce(piece))  # half of the time of looking at each number
            self.spoiled |= not (sound or np.isfinite(piece).all())

    def add(self, shard: int) -> None:
        """The gradient of this shard stands in the buffer."""
        if shard == self._last:
            self.close()
            self.complete(0, self.buffer.size)
            return
        node, others = self._above(shard)
        for other in others:
            self._join(other, 0, self.buffer.size)
        self._free += others
        copy = self._free.pop() if self._free else np.empty_like(self.buffer)
        np.copyto(copy, self.buffer)
        self._waiting.append((node, copy))

    def close(self) -> None:
        """The last shard is all that is to come: :meth:`sums` are those that will be."""
        node, self._to_last = self._above(self._last)
        self._waiting.append((node, self.buffer))

    def complete(self, start: int, stop: int) -> None:
        """The gradient of the last shard stands in this piece of the buffer. Once for each, after close."""
        for other in self._to_last:
            self._join(other, start, stop)

    def _above(self, shard: int) -> tuple[Node, list[np.ndarray]]:
        """The largest node that this shard is the last of, and what waits to be added to it for that, in this order."""
        node, others = (shard, shard + 1), []
        while self._waiting and node in self._left and self._left[node][0] == self._waiting[-1][0]:
            others.append(self._waiting.pop()[1])
            node = self._left[node][1]
        return node, others

    def _join(self, other: np.ndarray, start: int, stop: int) -> None:
        piece = self.buffer[start:stop]
        with np.errstate(all="ignore"):  # the gate looks at the sum
            np.add(other[start:stop], piece, out=piece)

    def sums(self) -> list[tuple[Node, np.ndarray]]:
        """(node, its sum (N,)) of the largest nodes over this process's shards, from the left. The last is the buffer
        itself; all are good until ``begin``."""
        return list(self._waiting)
