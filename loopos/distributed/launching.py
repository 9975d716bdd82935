"""The command line of a launcher, from hosts and a number of ranks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def mpiexec() -> str:
    """The launcher beside this python, else the one of the path: FileNotFoundError when there is none."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise FileNotFoundError(
            2, "launch: there is no mpiexec: pip install 'loopos[mpi]', or load your MPI", "mpiexec"
        )
    return found


def is_open_mpi(launcher: str) -> bool:
    """Whether it takes the options of Open MPI; else those of Hydra (mpich, Intel MPI)."""
    told = subprocess.run([launcher, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return "Open MPI" in told.stdout or "OpenRTE" in told.stdout


PASSED = ("LOOPOS_", "PYTHON", "OMP_NUM_THREADS", "HF_")  # how names begin that ranks on other hosts need


def passed() -> list[str]:
    """The variables of the environment that are to reach ranks on other hosts: Open MPI sends none by itself."""
    return sorted(name for name in os.environ if name.startswith(PASSED))


def default_ranks(hosts: Sequence[str]) -> int:
    """One a host; without hosts, of a job of Slurm as many as it has tasks, else 1."""
    tasks = os.environ.get("SLURM_NTASKS", "")
    return len(hosts) or (int(tasks) if tasks.isdecimal() and int(tasks) else 1)


def command_line(
    launcher: str,
    open_mpi: bool,
    hosts: Sequence[str],
    ranks: int | None,
    program: Sequence[str],
    own: str | None = None,
) -> list[str]:
    """``program`` on ``ranks`` processes, shared out to ``hosts`` as evenly as can be, the first hosts first; None:
    :func:`default_ranks`. own: the address of this machine for the hosts, where its name will not
    do. ValueError for fewer ranks than hosts, or a host that is named twice."""
    if len(set(hosts)) != len(hosts):
        raise ValueError(f"launch: hosts must be different, got {','.join(hosts)}; -n says how many ranks there are")
    count = default_ranks(hosts) if ranks is None else ranks
    if count < len(hosts):
        raise ValueError(f"launch: -n must be at least {len(hosts)}, one rank for each of the hosts, got {count}")
    each, more = divmod(count, max(1, len(hosts)))
    shares = ",".join(f"{host}:{each + (i < more)}" for i, host in enumerate(hosts))
    if open_mpi:
        placed = ["--host", shares] if hosts else []
        placed += [word for name in passed() for word in ("-x", name)] if hosts else []
        # It would bind each rank to one core: LoopOS shares the cores of a machine out to its ranks.
        return [launcher, "--bind-to", "none", *placed, "-n", str(count), *program]
    placed = ["-localhost", own] if own is not None else []  # Open MPI tries all addresses
    placed += ["-hosts", shares] if hosts else []  # -ppn would fill the first hosts, and leave the last without a rank
    return [launcher, *placed, "-n", str(count), *program]
