"""The gradients of all processes added, every number along the tree of shards.

The buffer goes in buckets, the last one first: backward makes the last gradients first. Of each, every process adds
its own piece: it is sent what the others have of that piece (an all-to-all), adds it along the tree, and sends the
sum to all (an all-gather). Where the number of processes is a power of two that divides the shards, each process has
one sum of its own, and the traffic is that of a reduce-scatter and an all-gather, the least there can be; else it has
a few, and sends each. Exchanges of the next bucket are under way while one is added.

An exchange is begun, advanced as far as numbers are final, without waiting, as often as one likes, and finished. All
processes start the same exchanges in the same order in each of two communicators, one for the all-to-alls and one for
the all-gathers; when an all-gather is started beside the all-to-alls differs from process to process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .tree import Node, combine, roots, run_of

BUCKET = 1 << 22  # numbers at most
SMALLEST = 1 << 16  # and at least, of two ranks: a bucket takes its messages whatever it holds
BUCKETS = 8  # as many at least, where they are not too small: what is final early is sent early
_ALIGNED = 16
Ranges = Sequence[tuple[int, int]]
Lanes = tuple[Any, Any]  # two communicators of mpi4py over the same processes


def bucket_of(size: int, ranks: int = 2) -> int:
    """Numbers of a bucket of a buffer of this size, between so many ranks, whose messages are no smaller than those of
    two. No bit depends on it."""
    return min(BUCKET, max(SMALLEST * max(1, ranks // 2), -(-size // BUCKETS)))


def pieces(first: int, last: int, size: int) -> list[tuple[int, int]]:
    """[first, last) in ``size`` pieces, of which some may be empty."""
    step = -(-(last - first) // size)
    step = -(-step // _ALIGNED) * _ALIGNED
    return [(min(first + i * step, last), min(first + (i + 1) * step, last)) for i in range(size)]


def slices(owned: Ranges, step: int) -> list[list[tuple[int, int]]]:
    """Buckets of ``step`` numbers at most, of each of which every process is sent as much of what it owns: so all links
    are in use."""
    each = max(_ALIGNED, step // len(owned))
    count = max(-(-(stop - start) // each) for start, stop in owned)
    return [
        [(min(start + i * each, stop), min(start + (i + 1) * each, stop)) for start, stop in owned]
        for i in range(count)
    ][::-1]


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.add(a, b, out=a)


class Plain:
    """The numbers themselves are sent."""

    def read(self, sent: np.ndarray, start: int, stop: int) -> np.ndarray:
        """The numbers of a piece of what was sent, which may be written over until the next bucket is read."""
        return sent[start:stop]

    def write(self, numbers: np.ndarray, buffer: np.ndarray, start: int) -> None:
        """Puts a sum where it is sent from: ``buffer`` from ``start`` on."""
        np.copyto(buffer[start : start + len(numbers)], numbers)

    def arrived(self, start: int, stop: int) -> None:
        """The sums of all processes stand in this piece of the buffer that is sent."""


def _nothing(start: int, stop: int) -> None:
    pass


class Exact:
    """The exchanges of one buffer, planned once."""

    def __init__(
        self,
        lanes: Lanes,
        kind: Any,
        wait: Callable[[Any], None],
        buffer: np.ndarray,
        shards: int,
        bucket: int | None = None,
        code: Plain | None = None,
        owned: Ranges | None = None,
    ):
        """lanes: of which nobody else makes use; kind: the MPI type of a number of ``buffer``; wait(requests): until
        they are done; bucket: numbers of one, None for the usual; code: what stands in the buffer for a number; owned:
        of each process the piece of the buffer whose sum it is to have, and no other; None: all have all."""
        self._code = Plain() if code is None else code
        self._lanes, self._kind, self._wait, self._shards = lanes, kind, wait, shards
        rank, size = lanes[0].Get_rank(), lanes[0].Get_size()
        runs = [run_of(shards, each, size) for each in range(size)]
        self._roots: list[list[Node]] = [roots(shards, run.start, run.stop) for run in runs]
        self._rank, self._buffer = rank, buffer
        step = max(bucket or bucket_of(buffer.size, size), size * _ALIGNED)
        cuts = [(at, min(at + step, buffer.size)) for at in range(0, buffer.size, step)][::-1]
        self._buckets = [pieces(*cut, size) for cut in cuts] if owned is None else slices(owned, step)
        self._owned, self._count = owned, len(self._buckets)
        self._firsts = [min(start for start, _ in bucket) for bucket in self._buckets]
        widest = max(stop - start for bucket in self._buckets for start, stop in bucket)
        count = sum(map(len, self._roots))
        self._received = [np.empty(count * widest, buffer.dtype) for _ in range(min(2, self._count))]
        self._arrays: list[np.ndarray] = []
        self._complete = _nothing
        self._sent = self._added = self._count
        self._coming: list[Any] = []  # what is to be waited for before each bucket that is sent can be added
        self._gathering: deque[tuple[int, Any]] = deque()

    def begin(
        self, sums: Sequence[tuple[Node, np.ndarray]], complete: Callable[[int, int], None] | None = None
    ) -> None:
        """sums: of this process's largest nodes, the last of which is the buffer itself, where the result is left.
        complete(start, stop): called before a piece of them is sent, once for each."""
        if [node for node, _ in sums] != self._roots[self._rank]:
            raise RuntimeError(f"Exact: expected the sums of {self._roots[self._rank]}, got {[n for n, _ in sums]}")
        self._arrays, self._complete = [array for _, array in sums], complete or _nothing
        self._sent = self._added = 0
        self._coming, self._gathering = [], deque()

    def starts_at(self, first: int) -> bool:
        """Whether a bucket can be sent once the numbers from ``first`` on are final."""
        return self._sent < self._count and self._firsts[self._sent] >= first

    def advance(self, first: int) -> None:
        """What can be done without waiting, the numbers from ``first`` on being final."""
        while True:
            if self._sent - self._added < 2 and self.starts_at(first):
                self._start()
            elif self._added < self._sent and all(request.Test() for request in self._coming[0]):
                self._add()
            else:
                break
        while self._gathering and self._gathering[0][1].Test():
            self._arrived()

    def finish(self) -> None:
        """Until all sums are there, all numbers being final."""
        while self._added < self._count:
            self.advance(0)
            if self._added < self._sent:
                self._wait(self._coming[0])
        self._wait([request for _, request in self._gathering])
        while self._gathering:
            self._arrived()

    def _ranges(self, number: int) -> list[tuple[int, int]]:
        """What a bucket holds: one range of the buffer, or one for each process that owns some."""
        bucket = [piece for piece in self._buckets[number] if piece[0] < piece[1]]
        return bucket if self._owned else [(bucket[0][0], bucket[-1][1])]

    def _start(self) -> None:
        for start, stop in self._ranges(self._sent):
            self._complete(start, stop)
        self._coming.append(self._send(self._sent))
        self._sent += 1

    def _send(self, number: int) -> list[Any]:
        """The exchanges of a bucket: one for each sum that the process with the most of them has."""
        bucket, received = self._buckets[number], self._received[number % 2]
        mine = bucket[self._rank][1] - bucket[self._rank][0]
        requests, at = [], 0
        for level in range(max(map(len, self._roots))):
            sends = level < len(self._arrays)
            array = self._arrays[level] if sends else self._buffer
            counts = [(stop - start) if sends else 0 for start, stop in bucket]
            starts = [start for start, _ in bucket]
            to_come, places = [], []
            for theirs in self._roots:
                there = mine if level < len(theirs) else 0
                to_come.append(there)
                places.append(at)
                at += there
            requests.append(
                self._lanes[0].Ialltoallv([array, counts, starts, self._kind], [received, to_come, places, self._kind])
            )
        return requests

    def _add(self) -> None:
        """Of the oldest bucket that has come, and sends the sum to all."""
        number = self._added
        self._coming.pop(0)
        start, stop = self._buckets[number][self._rank]
        parts: dict[Node, np.ndarray] = {}
        at = 0
        for level in range(max(map(len, self._roots)) if start < stop else 0):
            for theirs in self._roots:
                if level < len(theirs):
                    parts[theirs[level]] = self._code.read(self._received[number % 2], at, at + stop - start)
                    at += stop - start
        if parts:
            with np.errstate(all="ignore"):  # the gate looks at the sum
                self._code.write(combine(self._shards, parts, _sum), self._buffer, start)
        self._added += 1
        if self._owned is None:
            self._gathering.append((number, self._gather(number)))
        elif parts:
            self._code.arrived(start, stop)

    def _gather(self, number: int) -> Any:
        from mpi4py import MPI

        bucket = self._buckets[number]
        counts, starts = [stop - start for start, stop in bucket], [start for start, _ in bucket]
        return self._lanes[1].Iallgatherv(MPI.IN_PLACE, [self._buffer, counts, starts, self._kind])

    def _arrived(self) -> None:
        number, _ = self._gathering.popleft()
        for start, stop in self._ranges(number):
            self._code.arrived(start, stop)


class Fast:
    """Added by MPI, in whatever order it takes. The methods of Exact."""

    def __init__(self, comm: Any, wait: Callable[[Any], None], buffer: np.ndarray):
        self._comm, self._wait, self._buffer = comm, wait, buffer
        step = 4 * bucket_of(buffer.size)
        self._cuts = [(at, min(at + step, buffer.size)) for at in range(0, buffer.size, step)][::-1]
        self._requests: list[Any] = []
        self._done = 0
        self._complete = _nothing

    def begin(self, sums: Any, complete: Callable[[int, int], None]) -> None:
        self._requests, self._done, self._complete = [], 0, complete

    def starts_at(self, first: int) -> bool:
        sent = len(self._requests)
        return sent < len(self._cuts) and self._cuts[sent][0] >= first

    def advance(self, first: int) -> None:
        from mpi4py import MPI

        while self.starts_at(first):
            start, stop = self._cuts[len(self._requests)]
            self._complete(start, stop)
            self._requests.append(self._comm.Iallreduce(MPI.IN_PLACE, self._buffer[start:stop]))
        while self._done < len(self._requests) and self._requests[self._done].Test():
            self._done += 1

    def finish(self) -> None:
        self.advance(0)
        self._wait(self._requests)
