"""A rank's side of the watchman: a thread that says every so often how it gets on, and hears when the run is over."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from loopos.errors import RankError

REACH = 15.0  # seconds in which the watchman must be reached
TO_RAISE = 5.0  # seconds that the main thread has to notice that the run is over
NEWS = 0.1  # seconds between two words of a new update: each wakes the watchman, which takes a core from who computes
_SIOCGIFADDR = 0x8915


def addresses() -> list[str]:
    """The IPv4 addresses of this machine, its own name for itself last."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            found.append(socket.inet_ntoa(answer[20:24]))
    return sorted(found, key=lambda each: each.startswith("127."))


def start(count: int, timeout: float) -> dict[str, Any]:
    """Starts the watchman of ``count`` ranks, and tells how to reach it."""
    key = secrets.token_hex(16)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("watchman.py")), str(count), str(timeout)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(key + "\n")
    process.stdin.close()
    port = int(process.stdout.readline())
    process.stdout.close()
    process.returncode = 0  # nobody waits for it: it ends by itself
    return {"addresses": addresses(), "port": port, "key": key}


class Watched:
    """The connection of one rank."""

    def __init__(self, place: dict[str, Any], rank: int, host: str, timeout: float):
        """place: what :func:`start` told. ConnectionError when the watchman cannot be reached."""
        self._timeout = timeout
        self.step, self.tick, self.waits = 0, 0, False
        self.over: str | None = None  # why the run is
        self.raised = False  # the main thread knows
        self._verdict = threading.Event()
        self._lock = threading.Lock()
        self._connection = _reach(place, {"rank": rank, "host": host, "pid": os.getpid(), "key": place["key"]})
        self._heard = self._said = time.monotonic()
        for work in (self._speak, self._listen):
            threading.Thread(target=work, name="loopos-watched", daemon=True).start()
        atexit.register(self._leave)

    def check(self) -> None:
        """RankError when the run is over."""
        if self.over is not None:
            self.raised = True
            raise RankError(self.over)

    def at(self, step: int) -> None:
        """The main thread is in this update, and gets on."""
        self.tick += 1
        if step != self.step:
            first, self.step = self.step == 0, step
            if first or time.monotonic() - self._said > NEWS:
                self._news()

    def _news(self) -> None:
        self._said = time.monotonic()
        self._send({"tick": self.tick, "waits": self.waits, "step": self.step})

    def set_timeout(self, seconds: float) -> None:
        """Of silence and of waiting, from now on."""
        self._timeout = seconds
        self._send({"timeout": seconds})

    def fail(self, error: BaseException) -> bool:
        """Tells of an error of this rank. Whether all ranks have its like at the same time; else the run is over."""
        self._verdict.clear()  # of an error before, which its program caught
        self._send({"failed": type(error).__name__, "says": " ".join(str(error).split())})
        if self.over is None:
            self._verdict.wait(self._timeout)
        self.raised = True
        return self.over is None

    def _send(self, what: dict[str, Any]) -> None:
        with self._lock:
            try:
                self._connection.sendall(json.dumps(what).encode() + b"\n")
            except OSError:
                self._end("rank 0 cannot be reached any more: its process, its machine or the link to it is gone")

    def _speak(self) -> None:
        while self.over is None:
            self._news()
            time.sleep(min(1.0, self._timeout / 4))
            if time.monotonic() - self._heard > self._timeout:
                self._end("rank 0's machine is silent: it is gone, or the link to it is cut")
        time.sleep(TO_RAISE)
        if not self.raised:
            os._exit(1)  # the main thread is held somewhere

    def _listen(self) -> None:
        with self._connection.makefile() as lines:
            try:
                for line in lines:
                    said, self._heard = json.loads(line), time.monotonic()
                    if "end" in said:
                        self._end(said["end"])
                    elif "verdict" in said:
                        self._verdict.set()
            except (OSError, ValueError):
                pass

    def _end(self, why: str) -> None:
        if self.over is None:
            self.over = why
        self._verdict.set()

    def _leave(self) -> None:
        """At the end of the process. A run that is over has left exchanges unfinished, for which MPI would wait."""
        if self.over is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        self._send({"bye": True})


def _reach(place: dict[str, Any], hello: dict[str, Any]) -> socket.socket:
    until, tried = time.monotonic() + REACH, {}
    while time.monotonic() < until:
        for address in place["addresses"]:
            try:
                connection = socket.create_connection((address, place["port"]), timeout=2)
                connection.sendall(json.dumps(hello).encode() + b"\n")
                if connection.recv(1) == b"!":
                    connection.settimeout(None)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return connection
                connection.close()
            except OSError as error:
                tried[address] = str(error)
        time.sleep(0.1)
    raise ConnectionError(
        f"rank {hello['rank']} on {hello['host']} cannot reach rank 0 at port {place['port']}: {tried}"
    )
