"""The command line of a launcher."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loopos.distributed import launching
from loopos.distributed.launching import command_line

PROGRAM = ["python", "-m", "loopos", "train"]


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch):
    for name in [*launching.passed(), "SLURM_NTASKS"]:
        monkeypatch.delenv(name, raising=False)


def test_on_this_machine():
    assert command_line("mpiexec", False, [], 3, PROGRAM) == ["mpiexec", "-n", "3", *PROGRAM]
    free = ["mpiexec", "--bind-to", "none", "-n", "1", *PROGRAM]  # else each rank has one core
    assert command_line("mpiexec", True, [], None, PROGRAM) == free


def test_on_hosts():
    hydra = command_line("mpiexec", False, ["a", "b"], 4, PROGRAM)
    assert hydra == ["mpiexec", "-hosts", "a:2,b:2", "-n", "4", *PROGRAM]
    assert command_line("mpiexec", False, ["a", "b"], None, PROGRAM)[2:5] == ["a:1,b:1", "-n", "2"]
    open_mpi = command_line("mpiexec", True, ["a", "b"], 3, PROGRAM)
    assert open_mpi == ["mpiexec", "--bind-to", "none", "--host", "a:2,b:1", "-n", "3", *PROGRAM]


@pytest.mark.parametrize("open_mpi", [False, True])
def test_every_host_has_a_rank(open_mpi):
    """Of 4 ranks on 3 hosts with 2 places each, the last would have none."""
    assert "a:2,b:1,c:1" in command_line("mpiexec", open_mpi, ["a", "b", "c"], 4, PROGRAM)


def test_the_address_of_this_machine_is_told_to_hydra():
    hydra = command_line("mpiexec", False, ["a", "b"], 2, PROGRAM, "10.0.0.9")
    assert hydra == ["mpiexec", "-localhost", "10.0.0.9", "-hosts", "a:1,b:1", "-n", "2", *PROGRAM]


def test_a_job_of_slurm_says_how_many(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert command_line("mpiexec", False, [], None, PROGRAM) == ["mpiexec", "-n", "4", *PROGRAM]
    assert command_line("mpiexec", False, [], 2, PROGRAM)[:3] == ["mpiexec", "-n", "2"]
    assert command_line("mpiexec", False, ["a", "b"], None, PROGRAM)[-6:-4] == ["-n", "2"]


def test_open_mpi_is_told_what_other_hosts_need_of_the_environment(monkeypatch):
    for name in ("PYTHONPATH", "LOOPOS_NUM_THREADS", "OMP_NUM_THREADS", "SECRET"):
        monkeypatch.setenv(name, "1")
    told = ["-x", "LOOPOS_NUM_THREADS", "-x", "OMP_NUM_THREADS", "-x", "PYTHONPATH"]
    asked = command_line("mpiexec", True, ["a"], 1, PROGRAM)
    assert asked == ["mpiexec", "--bind-to", "none", "--host", "a:1", *told, "-n", "1", *PROGRAM]
    assert "-x" not in command_line("mpiexec", True, [], 1, PROGRAM)  # here they are
    assert "-x" not in command_line("mpiexec", False, ["a"], 1, PROGRAM)  # Hydra passes all


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="-n must be at least 2, one rank for each of the hosts, got 1"):
        command_line("mpiexec", False, ["a", "b"], 1, PROGRAM)
    with pytest.raises(ValueError, match="hosts must be different, got a,a"):
        command_line("mpiexec", False, ["a", "a"], 2, PROGRAM)


def test_without_a_launcher_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="there is no mpiexec"):
        launching.mpiexec()


def test_launchers_are_told_apart(tmp_path):
    for text, expected in (("mpiexec (Open MPI) 5.0", True), ("HYDRA build details", False)):
        launcher = Path(tmp_path / "mpiexec")
        launcher.write_text(f"#!/bin/sh\necho '{text}'\n")
        launcher.chmod(0o755)
        assert launching.is_open_mpi(str(launcher)) is expected
