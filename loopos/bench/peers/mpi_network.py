"""What MPI can do between two ranks, through mpi4py: messages to and fro, and sums of float32 vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import _core
from loopos.bench.peers.teaming import join_as, rank_and_size, timed


class Network:
    """Answers for one rank."""

    def __init__(self) -> None:
        self._rank, self._size = rank_and_size()
        self._comm: Any = None

    def start(self, threads: int) -> dict[str, Any]:
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD
        return {"engine": " ".join(MPI.Get_library_version().split()[:3]), "rss": 0}

    def messages(self, size: int, count: int) -> dict[str, Any]:
        """Seconds of each of ``count`` messages of ``size`` bytes between the first two ranks: half of there and
        back."""
        array, partner = np.zeros(size, np.uint8), 1 - self._rank
        there, back = self._comm.Send, self._comm.Recv
        if self._rank != 0:
            there, back = back, there

        def once() -> None:
            there(array, partner)
            back(array, partner)

        return timed(count, once, share=0.5)

    def sums(self, size: int, count: int) -> dict[str, Any]:
        """Seconds of each of ``count`` sums of ``size`` bytes of float32 over all ranks."""
        given, result = np.ones(size // 4, np.float32), np.empty(size // 4, np.float32)
        return timed(count, lambda: self._comm.Allreduce(given, result))

    def adding(self, size: int, count: int) -> dict[str, Any]:
        """Seconds of each of ``count`` additions of a vector of ``size`` bytes to another, all ranks at once."""
        given, result = np.ones(size // 4, np.float32), np.ones(size // 4, np.float32)
        return timed(count, lambda: np.add(given, result, out=result))

    def rounding(self, size: int, count: int) -> dict[str, Any]:
        """Seconds of rounding each of ``count`` vectors of ``size`` bytes of float32 to bfloat16, all ranks at once."""
        from loopos.distributed.rounding import Feedback

        given, bits, feedback = np.ones(size // 4, np.float32), np.empty(size // 4, np.uint16), Feedback(size // 4)
        return timed(count, lambda: feedback.round(given, bits))

    def reading(self, size: int, count: int) -> dict[str, Any]:
        """Seconds of reading them again, where a vector is ``size`` bytes as float32."""
        bits, numbers = np.ones(size // 4, np.uint16), np.empty(size // 4, np.float32)
        return timed(count, lambda: _core.from_bfloat16(bits, numbers))


if __name__ == "__main__":
    join_as(Network())
