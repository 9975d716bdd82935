"""What the ranks of one engine share: each is pinned to cores of its own, and asked over a socket.

All ranks get the same requests at once and answer for themselves. One that waits is blocked in a read, not in a
collective call of MPI, which would take a core from whoever has the turn.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loopos.bench.peers.serve import Engine, Server, answer
from loopos.bench.settings import Setting


class RankEngine(Engine):
    """An engine of which there are ``size`` processes that train one model together."""

    rank, size = 0, 1

    def gather(self) -> None:
        """Called once: from here on the ranks know each other."""
        raise NotImplementedError

    def part(self, data: list[tuple[np.ndarray, ...]]) -> list[tuple[np.ndarray, ...]]:
        """This rank's rows of each batch: contiguous, and as many as the others have."""

        def mine(array: np.ndarray) -> np.ndarray:
            rows = len(array) // self.size
            return np.ascontiguousarray(array[self.rank * rows : (self.rank + 1) * rows])

        return [tuple(map(mine, batch)) for batch in data]

    @staticmethod
    def rows_of(data: list[tuple[np.ndarray, ...]], rows: int) -> list[tuple[np.ndarray, ...]]:
        """The sequences of all batches of ``data``, in batches of so many."""
        whole = [np.concatenate(arrays) for arrays in zip(*data, strict=True)]
        count = len(whole[0]) // rows
        return [tuple(np.ascontiguousarray(each[i * rows : (i + 1) * rows]) for each in whole) for i in range(count)]

    def cut(self, rows: int, passes: int, reduction: str) -> None:
        """The next steps make ``passes`` passes of ``rows`` sequences, without the other ranks: their gradients are not
        added. rows 0: whole steps together, by this reduction ("tree", "fast", "bfloat16" or "zero") where the engine
        has several."""
        raise NotImplementedError

    def overlaps(self) -> bool:
        """Whether gradients are sent while backward makes others."""
        return False


def timed(count: int, once: Callable[[], Any], share: float = 1.0) -> dict[str, Any]:
    """A reply with the seconds of each of ``count`` calls, times ``share``."""
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        once()
        seconds.append(share * (time.perf_counter() - begin))
    return {"seconds": seconds}


def pin(cores: list[int]) -> None:
    """This process, every thread that it already has included."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def rank_and_size() -> tuple[int, int]:
    """As the launcher says them."""
    return int(os.environ.get("PMI_RANK", os.environ.get("RANK", "0"))), int(os.environ["LOOPOS_BENCH_RANKS"])


def join(engine: RankEngine) -> None:
    """Answers for one rank of an engine."""
    engine.rank, engine.size = rank_and_size()
    join_as(Team(engine))


def join_as(server: Any) -> None:
    """Answers requests over the socket that LOOPOS_BENCH_SOCKET names, until it is closed, on the cores that
    LOOPOS_BENCH_CORES gives to each rank: "0;1"."""
    rank, _ = rank_and_size()
    pin([int(core) for core in os.environ["LOOPOS_BENCH_CORES"].split(";")[rank].split(",")])
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["LOOPOS_BENCH_SOCKET"])
    with connection, connection.makefile("r") as requests, connection.makefile("w") as replies:
        print(rank, file=replies, flush=True)
        answer(server, requests, replies)


class Team:
    """Turns requests into calls of an engine of several ranks; each rank does it for itself."""

    def __init__(self, engine: RankEngine):
        self._engine, self._server = engine, Server(engine)

    def start(self, threads: int) -> dict[str, Any]:
        reply = self._server.start(threads)
        self._engine.gather()
        return reply | {"engine": self._engine.name}

    def prepare(
        self, setting: dict[str, Any], seed: int, reduction: str = "tree", adapter: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Of this rank's part of each batch; reduction: see RankEngine.cut; adapter: fields of loopos.LoRA, of which
        alone the gradients are added."""
        chosen = Setting.from_dict(setting)
        data = self._engine.part(chosen.data(seed))
        parameters = self._engine.prepare(chosen, data)
        trained = parameters if adapter is None else self._engine.adapt(adapter)
        self._engine.learn(data)
        self._engine.cut(0, 1, reduction)
        self._server.use(data)
        return {"parameters": parameters, "trained": trained}

    def cut(self, rows: int, passes: int, reduction: str = "tree") -> dict[str, Any]:
        self._engine.cut(rows, passes, reduction)
        return {"overlaps": self._engine.overlaps()}

    def steps(self, count: int) -> dict[str, Any]:
        return self._server.steps(count)

    def memory(self) -> dict[str, Any]:
        return self._server.memory()
