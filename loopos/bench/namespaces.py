"""Several hosts out of one Linux machine: network namespaces, each with an address of its own, joined by a bridge.

    with namespaces.hosts(2) as hosts:
        hosts.limit(gigabits=1)
        subprocess.run([*hosts.mpiexec(), "python", "program.py"], env=hosts.environment())
        hosts.cut(1)

It needs root and the program ``ip`` (Debian: iproute2); :func:`why_not` says what is missing. Memory, files and cores
are still shared: only what goes over the network is as between machines. ``tc netem`` is not in every kernel, so a link
is slowed by ``tbf``, which limits its rate, and its latency is the kernel's own.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "lp"
NETWORKS = 250  # 10.203.x.0/24


class NoNamespaces(Exception):
    """The system does not let this process make hosts; the message says why."""


def _run(*words: str) -> str:
    """Its stdout. NoNamespaces with the last line of its stderr."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        raise NoNamespaces(f"the program {words[0]} is not installed (Debian: iproute2)") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise NoNamespaces(f"{' '.join(words)}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout


def _free_network(number: int) -> str:
    """One that no card of this machine is in, the search begun by a number, so that two that search at the same time
    seldom meet."""
    taken = {int(each) for each in re.findall(r" 10\.203\.(\d+)\.", _run("ip", "-o", "-4", "addr"))}
    found = next((each for i in range(NETWORKS) if (each := 1 + (number + i) % NETWORKS) not in taken), None)
    if found is None:
        raise NoNamespaces(f"all {NETWORKS} networks of 10.203.0.0/16 are in use; ip link shows what killed runs left")
    return f"10.203.{found}"


class Hosts:
    """Made by :func:`hosts`."""

    def __init__(self, count: int, folder: Path):
        self._tag = f"{PREFIX}{os.getpid() % 10_000_000}"
        self._network = _free_network(os.getpid())
        self.names = [f"{self._tag}n{i}" for i in range(count)]
        self.addresses = [f"{self._network}.{i + 1}" for i in range(count)]
        self._outside = f"{self._network}.254"
        self._folder = folder

    def make(self) -> None:
        _run("ip", "link", "add", f"{self._tag}b", "type", "bridge")
        _run("ip", "addr", "add", f"{self._outside}/24", "dev", f"{self._tag}b")
        _run("ip", "link", "set", f"{self._tag}b", "up")
        for name, address in zip(self.names, self.addresses, strict=True):
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "link", "set", f"{name}v", "master", f"{self._tag}b", "up")
            _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")

    def remove(self) -> None:
        """What there is of it; nothing is said of what is not."""
        if shutil.which("ip") is None:
            return
        links = [["ip", "link", "del", f"{name}v"] for name in self.names] + [["ip", "link", "del", f"{self._tag}b"]]
        for words in (*(["ip", "netns", "del", name] for name in self.names), *links):
            subprocess.run(words, capture_output=True)

    def _shell(self) -> Path:
        """What MPI's launcher calls instead of ssh: options, the address of a host, and a command for it."""
        path = self._folder / "shell"
        cases = [
            f'{address}) exec ip netns exec {name} sh -c "$*";;'
            for name, address in zip(self.names, self.addresses, strict=True)
        ]
        lines = ["#!/bin/sh", 'while [ "${1#-}" != "$1" ]; do shift; done', "host=$1; shift", 'case "$host" in', *cases]
        path.write_text("\n".join([*lines, "esac", 'echo "no host $host" >&2; exit 255']) + "\n")
        path.chmod(stat.S_IRWXU)
        return path

    def within(self, host: int) -> list[str]:
        """Words before a command that is to run on this host."""
        return ["ip", "netns", "exec", self.names[host]]

    def mpiexec(self, ranks: int | None = None) -> list[str]:
        """Words before a program that is to run on all hosts, one rank on each unless more are asked for. Of MPICH."""
        found = mpiexec()
        if found is None:
            raise NoNamespaces("mpiexec is not installed (pip install mpi4py mpich)")
        hosts = ["-hosts", ",".join(self.addresses), "-n", str(ranks or len(self.names))]
        return [found, "-localhost", self._outside, "-launcher", "ssh", "-launcher-exec", str(self._shell()), *hosts]

    @staticmethod
    def environment() -> dict[str, str]:
        """For processes on the hosts: MPI and gloo may take nothing but the network, as between machines."""
        return {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "eth0", "GLOO_SOCKET_IFNAME": "eth0", "FI_PROVIDER": "tcp"}

    def limit(self, gigabits: float) -> None:
        """Every host sends and receives so many Gbit/s at most."""
        rate, burst = f"{gigabits * 1000:.0f}mbit", f"{max(64, int(gigabits * 256))}kb"
        shape = ["root", "tbf", "rate", rate, "burst", burst, "latency", "50ms"]
        for name in self.names:
            _run("ip", "netns", "exec", name, "tc", "qdisc", "replace", "dev", "eth0", *shape)
            _run("tc", "qdisc", "replace", "dev", f"{name}v", *shape)

    def cut(self, host: int) -> None:
        """Nothing reaches this host or comes from it, and nobody is told."""
        _run("ip", "-n", self.names[host], "link", "set", "eth0", "down")

    def mend(self, host: int) -> None:
        _run("ip", "-n", self.names[host], "link", "set", "eth0", "up")

    def sent(self, host: int) -> int:
        """Bytes that this host has sent to others."""
        path = "/sys/class/net/eth0/statistics/tx_bytes"
        return int(_run("ip", "netns", "exec", self.names[host], "cat", path))


def mpiexec() -> str | None:
    """That beside this Python, which is of the MPI that pip installed, or that of the system."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


@contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """So many, which are gone afterwards. NoNamespaces where the system does not let this process make them."""
    with tempfile.TemporaryDirectory() as folder:
        made = Hosts(count, Path(folder))
        try:
            made.make()
            yield made
        finally:
            made.remove()


def why_not() -> str | None:
    """What keeps this process from making hosts; None where nothing does."""
    try:
        with hosts(1) as one:
            one.limit(1)
    except NoNamespaces as reason:
        return str(reason)
    return None
