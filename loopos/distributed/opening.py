"""From the argument ``distributed`` to the processes of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .alone import Alone
from .options import Distributed

# What launchers tell a process: its rank, and of how many.
LAUNCHERS = {
    "PMI_RANK": "PMI_SIZE",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
    "PMIX_RANK": "OMPI_COMM_WORLD_SIZE",
    "MPI_LOCALRANKID": "MPI_LOCALNRANKS",
}
STEP_TASKS = "SLURM_STEP_NUM_TASKS"  # of srun, which a script of sbatch has not

_opened: list[Any] = []  # the Ranks of this process: MPI has one world


def launched() -> tuple[int, int | None] | None:
    """(rank, number of ranks where it is said) by the launcher that started this process; None where none did."""
    for rank, size in LAUNCHERS.items():
        number = os.environ.get(rank, "")
        if number.isdecimal():
            of = os.environ.get(size) or os.environ.get(STEP_TASKS, "")
            return int(number), int(of) if of.isdecimal() else None
    return None


def refuse_strangers() -> None:
    """ImportError where srun started several processes and told none of them of the others: each would train alone."""
    tasks = os.environ.get(STEP_TASKS, "")
    if launched() is None and tasks.isdecimal() and int(tasks) > 1:
        raise ImportError(
            f"train: srun started {tasks} processes that do not know of each other: in a script of sbatch use loopos "
            "launch, or give srun the --mpi of your MPI (srun --mpi=list); --distributed none lets each train alone"
        )


def open_ranks(asked: Any) -> Alone:
    """Of the argument ``distributed``: the ranks that MPI has, or one process. ImportError where mpiexec started the
    process and mpi4py is missing, or the launcher is of another MPI, or is srun without MPI."""
    options = Distributed.of(asked)
    told = launched()
    if options is None:
        return Alone()
    if told is None:
        refuse_strangers()
        alone = Alone()
        alone.fast = options.fast_reduce
        return alone
    if _opened:
        _opened[0].use(options)
        return _opened[0]
    with meeting(told[0], options.timeout):
        MPI = _mpi()
        from .ranks import Ranks

        size = MPI.COMM_WORLD.Get_size()
        if told[1] is not None and told[1] != size:
            raise ImportError(
                f"train: the launcher started {told[1]} processes, and MPI ({_name(MPI)}) sees {size}: they are not of "
                f"the same MPI; {BESIDE}"
            )
        _opened.append(Ranks(MPI, options))
    return _opened[0]


BESIDE = "start with the mpiexec that lies beside this python, as loopos launch does"


def _name(mpi: Any) -> str:
    return mpi.Get_library_version().splitlines()[0].partition(",")[0].strip("\0 ")


def _mpi() -> Any:
    """mpi4py.MPI, initialised. MPICH ends a process without a word of ours that Open MPI's mpiexec has started: before
    that, which MPI it is can be asked."""
    try:
        import mpi4py

        ours = "mpi4py.MPI" not in sys.modules
        if ours:
            mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(
            "train: a launcher of MPI started this process, and mpi4py is missing: pip install 'loopos[mpi]'"
        ) from error
    if ours and not MPI.Is_initialized():
        if "OMPI_COMM_WORLD_RANK" in os.environ and "Open MPI" not in MPI.Get_library_version():
            raise ImportError(f"train: the launcher is of Open MPI, and mpi4py found {_name(MPI)}; {BESIDE}")
        MPI.Init_thread()
    return MPI


@contextmanager
def meeting(rank: int, seconds: float) -> Iterator[None]:
    """MPI waits without end for a rank that failed before it could join: a process beside this one ends it when so many
    seconds have gone."""
    says = f"loopos: rank {rank} has waited {seconds:g} s for all ranks to start: one has failed before it could join"
    alive = f'read _ _ _ parent _ < /proc/$$/stat; [ "$parent" = {os.getpid()} ] || exit'  # no other of its number
    whole = int(seconds)
    # It looks every second: as long as it is there it holds the error output, for whose end a launcher waits.
    script = (
        f"sleep {seconds - whole}; n={whole}; "
        f"while {alive}; [ $n -gt 0 ]; do n=$((n-1)); sleep 1; done; echo '{says}' >&2; kill -9 {os.getpid()}"
    )
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    guard = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True, **quiet)
    try:
        yield
    finally:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()
