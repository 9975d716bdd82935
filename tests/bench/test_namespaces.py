"""Hosts out of one machine: they have addresses, a link can be slowed and cut, and nothing is left of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loopos.bench import namespaces
from loopos.bench.namespaces import NoNamespaces


@pytest.fixture(scope="module")
def _permitted():
    if reason := namespaces.why_not():
        pytest.skip(f"no network namespaces here: {reason}")


PERMITTED = pytest.mark.usefixtures("_permitted")

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), timeout=0.3)
except OSError as error:
    print(type(error).__name__)
"""
SUM = """
import sys, numpy
from mpi4py import MPI
comm = MPI.COMM_WORLD
given = numpy.full(1 << 18, comm.Get_rank() + 1, numpy.float32)
result = numpy.empty_like(given)
comm.Allreduce(given, result)
sys.stdout.write(f"{result[0]}\\n")  # a line in one piece: the ranks share the output
"""


def knock(hosts: namespaces.Hosts) -> str:
    """What a connection from the first host to a port of the second that nobody listens at comes to."""
    words = [*hosts.within(0), sys.executable, "-c", CONNECT, hosts.addresses[1]]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


@PERMITTED
def test_hosts_have_addresses_and_a_link_can_be_cut():
    with namespaces.hosts(2) as hosts:
        assert len({*hosts.addresses}) == 2
        assert knock(hosts) == "ConnectionRefusedError"  # there is a host, and it answers
        hosts.cut(1)
        assert knock(hosts) in ("TimeoutError", "OSError")
        hosts.mend(1)
        assert knock(hosts) == "ConnectionRefusedError"


def test_a_network_that_is_in_use_is_passed_over(monkeypatch):
    cards = "1: lo inet 127.0.0.1/8\n" + "".join(f"{n}: b inet 10.203.{n}.254/24 scope\n" for n in (8, 9, 1))
    monkeypatch.setattr(namespaces, "_run", lambda *words: cards)
    assert [namespaces._free_network(each) for each in (6, 7, 249, 250, 257)] == [
        f"10.203.{each}" for each in (7, 10, 250, 2, 10)
    ]
    cards = "".join(f"{n}: b inet 10.203.{n}.254/24 scope\n" for n in range(1, 251))
    with pytest.raises(NoNamespaces, match="are in use"):
        namespaces._free_network(3)


@PERMITTED
def test_nothing_is_left():
    with namespaces.hosts(2) as hosts:
        names, links = subprocess.getoutput("ip netns"), subprocess.getoutput("ip -br link")
        assert all(name in names and f"{name}v" in links for name in hosts.names)
    after = subprocess.getoutput("ip netns") + subprocess.getoutput("ip -br link")
    assert not [name for name in hosts.names if name in after]
    assert f"{hosts._tag}b" not in after


@PERMITTED
def test_a_link_is_slowed():
    with namespaces.hosts(1) as hosts:
        hosts.limit(0.1)
        hosts.limit(1)
        shown = subprocess.getoutput(" ".join([*hosts.within(0), "tc qdisc show dev eth0"]))
    assert "tbf" in shown
    assert "rate 1Gbit" in shown


@PERMITTED
def test_mpi_goes_over_the_network():
    pytest.importorskip("mpi4py")
    with namespaces.hosts(2) as hosts:
        before = hosts.sent(0)
        done = subprocess.run(
            [*hosts.mpiexec(), sys.executable, "-c", SUM],
            env=os.environ | hosts.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.split() == ["3.0", "3.0"], done.stderr
        assert hosts.sent(0) - before > 1 << 20  # half of it there, and the sum of the other half


@PERMITTED
def test_the_launcher_knows_no_other_host(tmp_path):
    with namespaces.hosts(1) as hosts:
        done = subprocess.run([str(hosts._shell()), "-x", "10.0.0.9", "true"], capture_output=True, text=True)
    assert done.returncode == 255
    assert done.stderr == "no host 10.0.0.9\n"


def test_a_machine_without_ip_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert namespaces.why_not() == "the program ip is not installed (Debian: iproute2)"
    with pytest.raises(NoNamespaces), namespaces.hosts(1):
        raise AssertionError


def test_a_refusal_is_told_with_what_was_refused(monkeypatch, tmp_path):
    program = tmp_path / "ip"
    refusal = "RTNETLINK answers: Operation not permitted"
    program.write_text(f"#!/bin/sh\n[ $1 = -o ] && exit\necho '{refusal}' >&2\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Operation not permitted" in namespaces.why_not()
    assert namespaces.why_not().startswith("ip link add")


def test_without_mpiexec(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(namespaces, "_run", lambda *words: "")
    assert namespaces.mpiexec() is None
    with pytest.raises(NoNamespaces, match="mpiexec is not installed"):
        namespaces.Hosts(1, tmp_path).mpiexec()
