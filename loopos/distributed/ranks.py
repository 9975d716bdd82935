"""Several processes under MPI, through mpi4py, as one run."""

from __future__ import annotations

import pickle
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from loopos.errors import RankError

from .alone import Alone, DifferentRank
from .cores import named, shared_out, usable
from .options import Distributed
from .overlap import Overlap, left_under_way
from .partial import Partial
from .reduction import BUCKET, Exact, Fast, bucket_of
from .rounding import Rounded
from .tree import roots, run_of
from .watched import Watched, start

SPINS = 200  # looks at a request without a pause
PAUSE = 50e-6  # seconds between looks after that: a process that waits does not take a core from one that computes
BUSY = 2.0  # seconds in which a bucket that all ranks are sending is looked at with next to no pauses
MOMENT = 1e-6  # seconds asked for; the system sleeps for some 50e-6
LONGEST = 1e-3  # seconds between looks of a long wait


class Ranks(Alone):
    """The processes of ``MPI.COMM_WORLD``. Nothing waits inside MPI once they have met: a wait looks at its request and
    at what the watchman says, so that the death of one ends all."""

    def __init__(self, mpi: Any, options: Distributed):
        """mpi: mpi4py.MPI, initialised."""
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD.Dup()
        self._lanes = mpi.COMM_WORLD.Dup(), mpi.COMM_WORLD.Dup()  # of gradients alone
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.hosts = self._comm.allgather(socket.gethostname())
        self._here = self._comm.Split_type(mpi.COMM_TYPE_SHARED)  # the processes of this machine
        several = self._here.Get_size() < self.size  # machines
        self.overlaps = several and mpi.Query_thread() >= mpi.THREAD_SERIALIZED  # a thread of its own sends
        self._watched: Watched | None = None
        if self.size > 1:
            place = self._comm.bcast(start(self.size, options.timeout) if self.first else None)
            self._watched = Watched(place, self.rank, self.hosts[self.rank], options.timeout)
            _silence_what_is_told()
        self.use(options)

    def use(self, options: Distributed) -> None:
        """Of the run that begins. RankError after one that failed on some ranks, whose exchanges no longer match."""
        ended = self._watched.over if self._watched is not None else None
        if ended is None and left_under_way():
            ended = "an error in the midst of an update"
        if ended is not None:
            raise RankError(
                "train: these processes cannot begin another run after one that failed on some of them; start them "
                f"anew. What ended it: {ended}"
            )
        self.fast, self._wire = options.fast_reduce, options.wire
        self.shards_optimizer = options.shard_optimizer and self.size > 1
        if self._watched is not None:
            self._watched.set_timeout(options.timeout)

    def at(self, step: int) -> None:
        if self._watched is not None:
            self._watched.at(step)

    def wait(self, requests: Sequence[Any]) -> None:
        """Until these are done. RankError when that is not to be hoped for any more."""
        watched, looks, pause = self._watched, 0, PAUSE
        for request in requests:
            while not request.Test():
                looks += 1
                if looks > SPINS and watched is not None:
                    watched.waits = True
                    watched.check()
                    time.sleep(pause)
                    pause = min(pause * 1.05, LONGEST)
        if watched is not None:
            watched.waits = False
            watched.tick += 1

    def carry(self, requests: Sequence[Any]) -> None:
        """Until these are done, where all ranks are at it: MPI moves a piece whenever it is looked at, so the
        pauses are short. There must be some: another process may need the core. A core that is yielded instead comes
        back only after milliseconds where other programs want it. What takes long is waited for as by :meth:`wait`."""
        until, looks = time.monotonic() + BUSY, 0
        for request in requests:
            while not request.Test() and time.monotonic() < until:
                looks += 1
                if looks % SPINS == 0:
                    time.sleep(MOMENT)
        self.wait(requests)

    def total(self, numbers: np.ndarray) -> np.ndarray:
        given, result = np.ascontiguousarray(numbers, np.float64), np.empty(len(numbers))
        self.wait([self._comm.Iallreduce(given, result)])
        return result

    def gather(self, thing: Any) -> list[Any]:
        given = np.frombuffer(pickle.dumps(thing, pickle.HIGHEST_PROTOCOL), np.uint8)
        sizes = np.empty(self.size, np.int64)
        self.wait([self._comm.Iallgather(np.array([len(given)], np.int64), sizes)])
        result = np.empty(int(sizes.sum()), np.uint8)
        self.wait([self._comm.Iallgatherv(given, [result, sizes.tolist()])])
        ends = np.cumsum(sizes)
        return [pickle.loads(result[end - size : end]) for size, end in zip(sizes, ends, strict=True)]

    def share(self, make: Callable[[], Any]) -> Any:
        given = pickle.dumps(make(), pickle.HIGHEST_PROTOCOL) if self.first else b""
        size = np.array([len(given)], np.int64)
        self.wait([self._comm.Ibcast(size)])
        data = np.frombuffer(bytearray(given), np.uint8) if self.first else np.empty(int(size[0]), np.uint8)
        step = 1 << 30
        for at in range(0, len(data), step):
            self.wait([self._comm.Ibcast(data[at : at + step])])
        return pickle.loads(data)

    def spread(self, owned: Sequence[tuple[int, np.ndarray]]) -> None:
        self.carry([self._comm.Ibcast(array, rank) for rank, array in owned])
        self._leave_together()

    def _leave_together(self) -> None:
        """After many small messages. MPI keeps those that found no room and sends them when it is looked at: a rank
        that goes on to something else would let the others wait for what it seems to have sent. The first barrier may
        be kept behind them; at the second nothing is."""
        for _ in range(2):
            self.carry([self._comm.Ibarrier()])

    def collect(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        told = self.gather([(name, array.shape, array.dtype.str) for name, array in arrays.items()])
        if not self.first:
            given = [np.ascontiguousarray(array) for array in arrays.values()]
            self.wait([self._comm.Isend(array, 0, tag) for tag, array in enumerate(given)])
            self._leave_together()
            return {}
        found, requests = {}, []
        for rank, theirs in enumerate(told[1:], 1):
            for tag, (name, shape, kind) in enumerate(theirs):
                found[name] = np.empty(shape, kind)
                requests.append(self._comm.Irecv(found[name], rank, tag))
        self.wait(requests)
        self._leave_together()
        return found

    def sending(self, partial: Partial, shards: int) -> Any:
        exchange = self._begun(partial, shards)
        return Overlap(exchange, partial.buffer.size) if self.overlaps else nullcontext()

    def reduce(self, partial: Partial, shards: int) -> None:
        self._begun(partial, shards).finish()

    def _begun(self, partial: Partial, shards: int) -> Any:
        if partial.exchange is None:
            partial.exchange = self._exchange(partial.buffer, shards, partial.owned)
        if not partial.begun:
            partial.exchange.begin(partial.sums(), partial.give)
            partial.begun = True
        return partial.exchange

    def _exchange(self, buffer: np.ndarray, shards: int, owned: Any) -> Any:
        if self.fast:
            return Fast(self._lanes[0], self.carry, buffer)
        bucket = None if self.overlaps else BUCKET  # small ones are for what goes on the way
        if self._wire == "bfloat16":
            if buffer.dtype != np.float32:
                raise ValueError(f"train: wire='bfloat16' is of float32 models, this one is {buffer.dtype}")
            return Rounded(self._lanes, self._mpi, self.carry, buffer, shards, bucket, owned=owned)
        kind = self._mpi.FLOAT if buffer.dtype == np.float32 else self._mpi.DOUBLE
        return Exact(self._lanes, kind, self.carry, buffer, shards, bucket, owned=owned)

    def exchange_bytes(self, numbers: int, itemsize: int, shards: int) -> int:
        if self.size == 1 or self.fast:
            return 0
        sums = [
            len(roots(shards, run.start, run.stop)) for run in (run_of(shards, i, self.size) for i in range(self.size))
        ]
        rounded = self._wire == "bfloat16"
        sent = 2 if rounded else itemsize
        bucket = bucket_of(numbers, self.size) if self.overlaps else BUCKET
        widest = -(-min(numbers, bucket) // self.size)
        received = min(2, -(-numbers // bucket)) * sum(sums) * widest * sent
        mine = sums[self.rank]
        if rounded:  # bits, what is owed, and the numbers that are read
            return received + numbers * (2 * mine + 4 * mine + 4) + 4 * sum(sums) * widest
        return received

    def threads(self, asked: int | None) -> int | None:
        if asked is not None or named():
            return asked
        return shared_out(self._here.allgather(usable()), self._here.Get_rank())

    @contextmanager
    def agreed(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                if not self.first:
                    warnings.simplefilter("ignore")  # the first says it
                yield
        except RankError:
            raise
        except BaseException as error:
            if self._watched is None or hasattr(error, "told"):  # within another such context it was agreed upon
                raise
            alike = self._watched.fail(error)
            error.told = not (alike and self.first)  # type: ignore[attr-defined]
            raise

    def same(self, what: Mapping[str, Any]) -> None:
        given = self.gather(dict(what))
        for rank, theirs in enumerate(given):
            for name, value in given[0].items():
                if theirs.get(name) != value:
                    raise DifferentRank(
                        f"train: rank {rank} on {self.hosts[rank]} has another {name} than rank 0 on {self.hosts[0]}: "
                        f"{theirs.get(name)} there, {value} here"
                    )


def _silence_what_is_told() -> None:
    """No traceback of an error that another rank, or the watchman, has printed."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not getattr(error, "told", False):
            before(kind, error, trace)

    sys.excepthook = hook
