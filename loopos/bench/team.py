"""The ranks of one engine: processes that are asked at once and answer each for itself."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import loopos

from .namespaces import Hosts, mpiexec
from .process import SETTLE, PeerError

START = 60.0  # seconds in which every rank must have come
ANSWER = 180.0  # and in which it must have answered: one may have failed where the others wait for it


class RankPeer(NamedTuple):
    """An engine of several processes: its program, the packages that it needs, whether mpiexec starts it when there is
    more than one."""

    program: str
    packages: tuple[str, ...]
    mpi: bool


RANK_PEERS = {
    "loopos": RankPeer("ours_ranks", (), True),
    "loopos-fast": RankPeer("ours_ranks", (), True),
    "loopos-wire": RankPeer("ours_ranks", (), True),
    "loopos-zero": RankPeer("ours_ranks", (), True),
    "torch-ddp": RankPeer("torch_ddp", ("torch",), False),
    "mpi": RankPeer("mpi_network", (), True),
    "gloo": RankPeer("gloo_network", ("torch",), False),
}


class Team:
    """``ranks`` processes of an engine, alive until :meth:`close`. PeerError when one cannot start."""

    def __init__(self, name: str, ranks: int, threads: int, cores: list[list[int]], hosts: Hosts | None = None):
        """threads: of each rank; cores: that each is pinned to; hosts: one for each rank; None: this machine."""
        peer = RANK_PEERS[name]
        for package in (*peer.packages, *(("mpi4py",) if peer.mpi and ranks > 1 else ())):
            if importlib.util.find_spec(package) is None:
                raise PeerError(f"{package} is not installed")
        self.name, self.ranks, self.threads = name, ranks, threads
        self._folder = tempfile.TemporaryDirectory(prefix="lp")  # a path of a socket has to be short
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self._processes: list[subprocess.Popen] = []
        self._streams: list[tuple[TextIO, TextIO]] = []
        self._sockets: list[socket.socket] = []
        path = [str(Path(loopos.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
        address = str(Path(self._folder.name) / "s")
        environment = {
            **os.environ,
            **(hosts.environment() if hosts is not None else {"GLOO_SOCKET_IFNAME": "lo"}),
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "OMP_NUM_THREADS": str(threads),
            "LOOPOS_BENCH_SOCKET": address,
            "LOOPOS_BENCH_FOLDER": self._folder.name,
            "LOOPOS_BENCH_RANKS": str(ranks),
            "LOOPOS_BENCH_CORES": ";".join(",".join(map(str, each)) for each in cores),
        }
        program = [sys.executable, "-m", f"loopos.bench.peers.{peer.program}"]
        listener = socket.socket(socket.AF_UNIX)
        try:
            with listener:
                listener.bind(address)
                listener.listen(ranks)
                for words, more in self._commands(peer, program, hosts):
                    self._processes.append(
                        subprocess.Popen(
                            words,
                            stdin=subprocess.DEVNULL,
                            stdout=self._errors,
                            stderr=self._errors,
                            env=environment | more,
                        )
                    )
                self._meet(listener)
            started = self.ask("start", threads=threads)
        except BaseException:
            self.close()
            raise
        self.engine: str = started[0]["engine"]
        self.rss: int = sum(each["rss"] for each in started)

    def _commands(
        self, peer: RankPeer, program: list[str], hosts: Hosts | None
    ) -> list[tuple[list[str], dict[str, str]]]:
        """Command lines, with what is peculiar to the environment of each."""
        if peer.mpi and self.ranks > 1:
            if hosts is not None:
                return [([*hosts.mpiexec(), *program], {})]
            launcher = mpiexec()
            if launcher is None:
                raise PeerError("mpiexec is not installed (pip install mpi4py mpich)")
            return [([launcher, "-n", str(self.ranks), *program], {})]
        within = [hosts.within(rank) if hosts is not None else [] for rank in range(self.ranks)]
        return [([*within[rank], *program], {"RANK": str(rank)}) for rank in range(self.ranks)]

    def _meet(self, listener: socket.socket) -> None:
        """Waits until every rank has said which it is."""
        listener.settimeout(0.1)
        came: dict[int, tuple[TextIO, TextIO]] = {}
        until = time.monotonic() + START
        while len(came) < self.ranks:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if any(process.poll() is not None for process in self._processes):
                    raise PeerError(self._last_words()) from None
                if time.monotonic() > until:
                    raise PeerError(f"{self.ranks - len(came)} ranks did not start in {START:.0f} s") from None
                continue
            connection.settimeout(ANSWER)
            self._sockets.append(connection)
            streams = connection.makefile("r"), connection.makefile("w")
            came[int(streams[0].readline())] = streams
        self._streams = [came[rank] for rank in range(self.ranks)]

    def ask(self, do: str, **arguments: Any) -> list[dict[str, Any]]:
        """The replies of all ranks to one request, in the order of the ranks. PeerError with an engine's own reason, or
        with the last line of stderr when a rank has died."""
        line = json.dumps({"do": do, **arguments}) + "\n"
        replies = []
        with suppress(BrokenPipeError):
            for _, requests in self._streams:
                requests.write(line)
                requests.flush()
        for answers, _ in self._streams:
            try:
                replies.append(answers.readline())
            except TimeoutError:
                raise PeerError(f"a rank did not answer in {ANSWER:.0f} s") from None
            except ConnectionResetError:
                replies.append("")
            if not replies[-1]:
                raise PeerError(self._last_words())
        found = [json.loads(reply) for reply in replies]
        for reply in found:
            if "error" in reply:
                raise PeerError(reply["error"])
        return found

    def turn(self, do: str, **arguments: Any) -> list[dict[str, Any]]:
        """:meth:`ask`, and a pause after it in which threads fall asleep."""
        replies = self.ask(do, **arguments)
        time.sleep(SETTLE)
        return replies

    def seconds(self, do: str, **arguments: Any) -> list[float]:
        """:meth:`turn`, of which each step takes as long as in the slowest rank."""
        return [max(each) for each in zip(*(reply["seconds"] for reply in self.turn(do, **arguments)), strict=True)]

    def peak_rss(self) -> int:
        """Of all ranks together, bytes: pages that they share are counted in each."""
        return sum(reply["peak_rss"] for reply in self.ask("memory"))

    def _last_words(self) -> str:
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").split("\n")]
        words = [line for line in lines if line and not line.startswith("=")]
        said = [line for line in words if "Error" in line] or words[-1:]
        return f"a rank ended: {said[-1]}" if said else "a rank ended without a word"

    def close(self) -> None:
        """End the processes: the sockets are closed, which is their sign; they are killed when they do not follow."""
        for streams in self._streams:
            for stream in streams:
                with suppress(OSError):
                    stream.close()
        for connection in self._sockets:
            connection.close()
        for process in self._processes:
            try:
                process.wait(timeout=10 if self._streams else 0.1)
            except subprocess.TimeoutExpired:
                process.terminate()  # mpiexec ends its ranks then
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=5)
                process.kill()
                process.wait()
        self._errors.close()
        self._folder.cleanup()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
