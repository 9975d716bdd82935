"""What is looked at on other hosts before ranks are started there: ssh is a script here."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from under_mpi import mpi_needed, root_path

from loopos.bench import namespaces
from loopos.cli import main
from loopos.distributed import reaching


@pytest.fixture
def shell(monkeypatch, tmp_path):
    """shell(lines): what `ssh` does; $host is the host, $@ its command."""
    for name in reaching.OTHERWISE:
        monkeypatch.delenv(name, raising=False)

    def make(*lines):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        begin = ["#!/bin/sh", 'while [ "${1#-}" != "$1" ]; do shift; done', "host=$1; shift"]
        (folder / "ssh").write_text("\n".join([*begin, *lines]) + "\n")
        (folder / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return make


HERE = 'exec sh -c "$*"'


def test_names_of_this_machine():
    assert reaching.is_here("localhost")
    assert reaching.is_here("127.0.0.1")
    assert not reaching.is_here("192.0.2.1")
    assert not reaching.is_here("no.such.host.invalid")


def test_without_other_hosts_nothing_is_asked(shell, monkeypatch):
    shell("exit 1")
    assert reaching.own_address(["localhost"]) is None
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # mpiexec takes srun
    assert reaching.own_address(["192.0.2.1"]) is None


def test_a_host_that_has_all_is_well(shell, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", root_path())
    shell("echo welcome to $host", HERE)
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert reaching.own_address(["192.0.2.1", "192.0.2.2"]) is None


def test_where_the_name_of_this_machine_is_not_known_its_address_is_told(shell, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", root_path())
    monkeypatch.setattr(socket, "gethostname", lambda: "no.such.host.invalid")
    monkeypatch.setattr(reaching, "addresses", lambda: ["127.0.0.1"])  # which is nobody else's
    shell("SSH_CONNECTION='127.0.0.1 1 127.0.0.1 2'; export SSH_CONNECTION", HERE)
    assert reaching.own_address(["192.0.2.1"]) == "127.0.0.1"
    shell(f"[ $host = 192.0.2.1 ] && SSH_CONNECTION='127.0.0.1 1'; export SSH_CONNECTION; {HERE}")
    with pytest.raises(ConnectionError, match=r"192.0.2.2 cannot open a connection to this machine \(no.such.host"):
        reaching.own_address(["192.0.2.1", "192.0.2.2"])
    shell("SSH_CONNECTION=127.0.0.${host#192.0.2.}; export SSH_CONNECTION", HERE)
    with pytest.raises(
        ConnectionError, match=r"no one address by which all of 192.0.2.1, 192.0.2.2 reach this machine"
    ):
        reaching.own_address(["192.0.2.1", "192.0.2.2"])


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ["echo Host key verification failed. >&2; exit 255"],
            r"on 192.0.2.1 .* cannot be started: Host key verification failed. \(ssh 192.0.2.1 true must work",
        ),
        (["echo bash: python: No such file >&2; exit 127"], "cannot be started: bash: python: No such file$"),
        (["exit 3"], "cannot be started: exit code 3"),
    ],
)
def test_what_ssh_says_is_told(shell, lines, says):
    shell(*lines)
    with pytest.raises(ConnectionError, match=says):
        reaching.own_address(["192.0.2.1"])


def test_what_a_host_lacks_is_told(shell, monkeypatch, tmp_path):
    python = subprocess.check_output(
        [sys.executable, "-c", "import sys; print(sys._base_executable)"], text=True
    ).strip()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr(reaching.os, "getcwd", lambda: str(gone))
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    shell(f"rmdir {gone}; cd /; exec {python} -I -S -")
    with pytest.raises(ConnectionError) as told:
        reaching.own_address(["192.0.2.1"])
    assert f"192.0.2.1 has no folder {gone}, in which ranks start; " in str(told.value)
    assert f"{sys.executable} on 192.0.2.1 has no loopos; {sys.executable} on 192.0.2.1 has no mpi4py" in str(
        told.value
    )


def test_one_that_does_not_answer_is_told(shell, monkeypatch):
    monkeypatch.setattr(reaching, "ANSWER", 0.2)
    shell("exec sleep 30")
    with pytest.raises(ConnectionError, match="it has not answered in 0 s"):
        reaching.own_address(["192.0.2.1"])


def test_without_ssh(monkeypatch, shell, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionError, match="there is no ssh here"):
        reaching.own_address(["192.0.2.1"])


@mpi_needed
def test_launch_starts_nothing_where_a_host_lacks_something(shell, capsys):
    shell("echo 'Permission denied (publickey).' >&2; exit 255")
    assert main(["launch", "--hosts", "192.0.2.1,localhost", "--", "train", "x.txt"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("loopos launch: on 192.0.2.1 ")
    assert "Permission denied (publickey)." in said


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
def test_launch_over_hosts_with_addresses_of_their_own(shell, tmp_path, monkeypatch):
    """Nobody has told them the name of this machine."""
    if reason := namespaces.why_not():
        pytest.skip(f"no network namespaces here: {reason}")
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question " * 20)
    small = ["--n-layer", "1", "--d-model", "16", "--n-head", "2", "--context-length", "8", "--max-steps", "4"]
    small += ["--batch-size", "4", "--shards", "2", "--sample", "0", "--no-doctor", "--no-progress"]
    monkeypatch.setenv("PYTHONPATH", root_path())
    monkeypatch.chdir(tmp_path)
    python = [sys.executable, "-m", "loopos"]
    subprocess.run([*python, "train", "text.txt", *small, "--output-dir", "one"], check=True, capture_output=True)
    with namespaces.hosts(2) as hosts:
        cases = [f'{at}) exec {" ".join(hosts.within(i))} sh -c "$*";;' for i, at in enumerate(hosts.addresses)]
        shell('case "$host" in', *cases, "esac", "exit 255")
        asked = [
            "launch",
            "--hosts",
            ",".join(hosts.addresses),
            "--",
            "train",
            "text.txt",
            *small,
            "--output-dir",
            "two",
        ]
        done = subprocess.run([*python, *asked], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert f"-localhost {hosts._outside}" in done.stderr
    weights = [Path(name, "step-00000004", "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
