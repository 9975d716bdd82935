"""The gradients of all processes added, every number along the tree of shards.

The buffer goes in buckets. Of each, every process adds its own piece: it is sent what the others have of that piece
(an all-to-all), adds it along the tree, and sends the sum to all (an all-gather). Where the number of processes is a
power of two that divides the shards, each process has one sum of its own, and the traffic is that of a reduce-scatter
and an all-gather, the least there can be; else it has a few, and sends each. Exchanges of the next bucket are under
way while one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .tree import Node, combine, roots, run_of

BUCKET = 1 << 22  # numbers
_ALIGNED = 16


def pieces(first: int, last: int, size: int) -> list[tuple[int, int]]:
    """[first, last) in ``size`` pieces, of which some may be empty."""
    step = -(-(last - first) // size)
    step = -(-step // _ALIGNED) * _ALIGNED
    return [(min(first + i * step, last), min(first + (i + 1) * step, last)) for i in range(size)]


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.add(a, b, out=a)


class Plain:
    """The numbers themselves are sent."""

    def read(self, sent: np.ndarray) -> np.ndarray:
        """The numbers of what was sent, which may be written over."""
        return sent

    def write(self, numbers: np.ndarray, buffer: np.ndarray, start: int) -> None:
        """Puts a sum where it is sent from: ``buffer`` from ``start`` on."""
        np.copyto(buffer[start : start + len(numbers)], numbers)


class Exact:
    """The exchanges of one buffer, planned once."""

    def __init__(
        self,
        comm: Any,
        kind: Any,
        wait: Callable[[Any], None],
        buffer: np.ndarray,
        shards: int,
        bucket: int = BUCKET,
        code: Plain | None = None,
    ):
        """comm: of mpi4py; kind: the MPI type of a number of ``buffer``; wait(requests): until they are done; code:
        what stands in the buffer for a number."""
        self._code = Plain() if code is None else code
        self._comm, self._kind, self._wait, self._shards = comm, kind, wait, shards
        rank, size = comm.Get_rank(), comm.Get_size()
        runs = [run_of(shards, each, size) for each in range(size)]
        self._roots: list[list[Node]] = [roots(shards, run.start, run.stop) for run in runs]
        self._rank, self._buffer = rank, buffer
        step = max(bucket, size * _ALIGNED)
        self._buckets = [pieces(at, min(at + step, buffer.size), size) for at in range(0, buffer.size, step)]
        widest = max(stop - start for bucket in self._buckets for start, stop in bucket)
        count = sum(map(len, self._roots))
        self._received = [np.empty(count * widest, buffer.dtype) for _ in range(min(2, len(self._buckets)))]

    def __call__(self, sums: Sequence[tuple[Node, np.ndarray]]) -> None:
        """sums: of this process's largest nodes, the last of which is the buffer itself, where the result is left."""
        if [node for node, _ in sums] != self._roots[self._rank]:
            raise RuntimeError(f"Exact: expected the sums of {self._roots[self._rank]}, got {[n for n, _ in sums]}")
        arrays = [array for _, array in sums]
        gathering: list[Any] = []
        coming = self._send(0, arrays)
        for number in range(len(self._buckets)):
            then = self._send(number + 1, arrays) if number + 1 < len(self._buckets) else []
            self._wait(coming)
            self._add(number)
            gathering.append(self._gather(number))
            coming = then
        self._wait(gathering)

    def _send(self, number: int, arrays: Sequence[np.ndarray]) -> list[Any]:
        """The exchanges of a bucket: one for each sum that the process with the most of them has."""
        bucket, received = self._buckets[number], self._received[number % 2]
        mine = bucket[self._rank][1] - bucket[self._rank][0]
        requests, at = [], 0
        for level in range(max(map(len, self._roots))):
            sends = level < len(arrays)
            array = arrays[level] if sends else self._buffer
            counts = [(stop - start) if sends else 0 for start, stop in bucket]
            starts = [start for start, _ in bucket]
            to_come, places = [], []
            for theirs in self._roots:
                there = mine if level < len(theirs) else 0
                to_come.append(there)
                places.append(at)
                at += there
            requests.append(
                self._comm.Ialltoallv([array, counts, starts, self._kind], [received, to_come, places, self._kind])
            )
        return requests

    def _add(self, number: int) -> None:
        start, stop = self._buckets[number][self._rank]
        if start == stop:
            return
        parts: dict[Node, np.ndarray] = {}
        at = 0
        for level in range(max(map(len, self._roots))):
            for theirs in self._roots:
                if level < len(theirs):
                    parts[theirs[level]] = self._code.read(self._received[number % 2][at : at + stop - start])
                    at += stop - start
        with np.errstate(all="ignore"):  # the gate looks at the sum
            self._code.write(combine(self._shards, parts, _sum), self._buffer, start)

    def _gather(self, number: int) -> Any:
        from mpi4py import MPI

        bucket = self._buckets[number]
        counts, starts = [stop - start for start, stop in bucket], [start for start, _ in bucket]
        return self._comm.Iallgatherv(MPI.IN_PLACE, [self._buffer, counts, starts, self._kind])


def fast(comm: Any, wait: Callable[[Any], None], buffer: np.ndarray) -> None:
    """Added by MPI, in whatever order it takes."""
    from mpi4py import MPI

    step = 16 * BUCKET
    wait([comm.Iallreduce(MPI.IN_PLACE, buffer[at : at + step]) for at in range(0, buffer.size, step)])
