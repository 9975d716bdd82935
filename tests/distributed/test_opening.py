"""Who started this process, and what it is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from under_mpi import NAMED, mpi_needed, root_path

from loopos.distributed.alone import Alone
from loopos.distributed.opening import launched, open_ranks

pytestmark = pytest.mark.usefixtures("started_by_nobody")


def test_without_a_launcher_there_is_one_process():
    assert launched() is None
    for asked in (None, "auto"):
        assert type(open_ranks(asked)) is Alone


def test_launchers_tell_the_rank(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "2")
    assert launched() == (2, None)
    monkeypatch.setenv("PMI_SIZE", "4")
    assert launched() == (2, 4)
    assert type(open_ranks(None)) is Alone  # each by itself, as it was asked for


def test_without_mpi4py_there_is_a_sentence(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"mpi4py is missing: pip install 'loopos\[mpi\]'"):
        open_ranks("auto")


@pytest.mark.unsanitized("a process of its own: sanitizers are not in it")
def test_who_guards_a_rank_that_died_leaves_its_outputs():
    """A launcher waits until nobody holds them any more."""
    dies = "import os\nfrom loopos.distributed.opening import meeting\nwith meeting(0, 100.0): os._exit(3)"
    ended = subprocess.run([sys.executable, "-c", dies], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"", b"")


def test_of_pmix_the_number_is_that_of_the_step(monkeypatch):
    monkeypatch.setenv("PMIX_RANK", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert launched() == (1, 4)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")  # its mpiexec, in an allocation
    assert launched() == (1, 2)


def test_of_srun_without_mpi_nothing_is_trained_twice(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert type(open_ranks("auto")) is Alone
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert type(open_ranks(None)) is Alone
    with pytest.raises(ImportError, match=r"srun started 4 processes that do not know of each other: .* loopos launch"):
        open_ranks("auto")


def opened(**env):
    """What a process said that opens its ranks."""
    script = "from loopos.distributed.opening import open_ranks; open_ranks('auto'); print('opened')"
    whole = {name: value for name, value in os.environ.items() if name not in NAMED} | {"PYTHONPATH": root_path()}
    done = subprocess.run([sys.executable, "-c", script], env=whole | env, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
def test_a_launcher_of_another_mpi_is_told():
    said = opened(OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="2")
    assert "ImportError: train: the launcher is of Open MPI, and mpi4py found MPICH Version" in said
    said = opened(MPI_LOCALRANKID="0", MPI_LOCALNRANKS="2")  # MPICH does not look at these
    assert "ImportError: train: the launcher started 2 processes, and MPI (MPICH Version" in said
    assert "start with the mpiexec that lies beside this python" in said


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
def test_mpi_that_is_there_already_is_taken():
    script = "from mpi4py import MPI\nfrom loopos.distributed.opening import _mpi\nprint(_mpi() is MPI)"
    env = os.environ | {"PYTHONPATH": root_path()}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
