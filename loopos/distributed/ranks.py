"""Several processes under MPI, through mpi4py, as one run."""

from __future__ import annotations

import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from loopos.errors import NonFiniteError

from .alone import Alone
from .cores import named, shared_out, usable
from .options import Distributed
from .partial import Partial
from .reduction import Exact, fast

SPINS = 200  # looks at a request without a pause
PAUSE = 50e-6  # seconds between looks after that: a process that waits does not take a core from one that computes
ALL_RAISE = (NonFiniteError, SystemExit, KeyboardInterrupt)  # errors that come in every process at once


class Ranks(Alone):
    """The processes of ``MPI.COMM_WORLD``."""

    def __init__(self, mpi: Any, options: Distributed):
        """mpi: mpi4py.MPI, initialised."""
        self._mpi, self._options = mpi, options
        self._comm = mpi.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.fast = options.fast_reduce
        self._exact: tuple[int, Exact] | None = None  # and the address of its buffer
        self.hosts = self._comm.allgather(socket.gethostname())

    def wait(self, requests: Sequence[Any]) -> None:
        """Until these are done."""
        for request in requests:
            looks = 0
            while not request.Test():
                looks += 1
                if looks > SPINS:
                    time.sleep(PAUSE)

    def total(self, numbers: np.ndarray) -> np.ndarray:
        given, result = np.ascontiguousarray(numbers, np.float64), np.empty(len(numbers))
        self.wait([self._comm.Iallreduce(given, result)])
        return result

    def gather(self, thing: Any) -> list[Any]:
        return list(self._comm.allgather(thing))

    def share(self, make: Callable[[], Any]) -> Any:
        return self._comm.bcast(make() if self.first else None)

    def reduce(self, partial: Partial, shards: int) -> None:
        buffer = partial.buffer
        if self.fast:
            fast(self._comm, self.wait, buffer)
        else:
            address = buffer.ctypes.data
            if self._exact is None or self._exact[0] != address:
                kind = self._mpi.FLOAT if buffer.dtype == np.float32 else self._mpi.DOUBLE
                self._exact = address, Exact(self._comm, kind, self.wait, buffer, shards)
            self._exact[1](partial.sums())
        partial.done()

    def threads(self, asked: int | None) -> int | None:
        if asked is not None or named():
            return asked
        here = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        neighbours, me = here.allgather(usable()), here.Get_rank()
        here.Free()
        return shared_out(neighbours, me)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                if not self.first:
                    warnings.simplefilter("ignore")  # the first says it
                yield
        except ALL_RAISE:
            raise
        except BaseException as error:
            if not self.first:
                time.sleep(1)  # what all of them meet, the first has said by then
            sys.stdout.flush()
            print(f"loopos: rank {self.rank} on {self.hosts[self.rank]}: {error}", file=sys.stderr, flush=True)
            self._mpi.COMM_WORLD.Abort(2)
            raise

    def same(self, what: Mapping[str, Any]) -> None:
        given = self.gather(dict(what))
        for rank, theirs in enumerate(given):
            for name, value in given[0].items():
                if theirs.get(name) != value:
                    raise ValueError(
                        f"train: rank {rank} on {self.hosts[rank]} has another {name} than rank 0 on {self.hosts[0]}: "
                        f"{theirs.get(name)} there, {value} here"
                    )
