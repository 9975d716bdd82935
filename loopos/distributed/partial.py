"""The gradients of one process's shards, added along the tree as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from .tree import Node, left_of


class Partial:
    """Adds what stands in ``buffer`` after each shard. Copies of it wait until what they are to be added to has come:
    at most one for each level of the tree. They are kept for the next update."""

    def __init__(self, buffer: np.ndarray, shards: int, run: range):
        """buffer (N,): where each shard's gradient is found, and where the last sum is left. run: the shards of this
        process, in whose order they come."""
        self.buffer, self._left, self._last = buffer, left_of(shards), run.stop - 1
        self._waiting: list[tuple[Node, np.ndarray]] = []
        self._free: list[np.ndarray] = []
        self.exchange: Any = None  # what several processes add their sums with
        self.spoiled = False  # a number of the sums of this process was not finite, before they were sent

    def begin(self) -> None:
        """A new update: the copies may be written over."""
        self._free += [array for _, array in self._waiting if array is not self.buffer]
        self._waiting, self.spoiled = [], False

    def look(self, start: int, stop: int) -> None:
        """At this piece of the sums, before it is sent: afterwards the buffer has what all processes gave."""
        for _, array in self._waiting:
            piece = array[start:stop]
            with np.errstate(all="ignore"):
                sound = np.isfinite(np.add.reduce(piece))  # half of the time of looking at each number
            self.spoiled |= not (sound or np.isfinite(piece).all())

    def add(self, shard: int) -> None:
        """The gradient of this shard stands in the buffer."""
        node = (shard, shard + 1)
        while self._waiting and node in self._left and self._left[node][0] == self._waiting[-1][0]:
            _, other = self._waiting.pop()
            with np.errstate(all="ignore"):  # the gate looks at the sum
                np.add(other, self.buffer, out=self.buffer)
            self._free.append(other)
            node = self._left[node][1]
        if shard == self._last:
            self._waiting.append((node, self.buffer))
            return
        copy = self._free.pop() if self._free else np.empty_like(self.buffer)
        np.copyto(copy, self.buffer)
        self._waiting.append((node, copy))

    def sums(self) -> list[tuple[Node, np.ndarray]]:
        """(node, its sum (N,)) of the largest nodes over this process's shards, from the left. The last is the buffer
        itself; all are good until ``begin``."""
        return list(self._waiting)
