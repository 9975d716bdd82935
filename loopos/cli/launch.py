"""`loopos launch`: a command of loopos as one run over several processes."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loopos import checks
from loopos.distributed.launching import command_line, is_open_mpi, mpiexec
from loopos.distributed.reaching import own_address
from loopos.run.messages import to_stderr

from .ranked import COMMANDS
from .reply import Reply

LAUNCH = """Start a training on several processes, on this machine or on the hosts named, by the mpiexec that lies
beside this python. Other hosts need the same python at the same path, this folder, and ssh that asks nothing: what one
of them lacks is told before anything starts.

  loopos launch -n 2 -- train novel.txt --output-dir runs/novel
  loopos launch --hosts a,b -n 4 -- train novel.txt --output-dir runs/novel

docs/distributed.md tells about Slurm, where srun is the launcher."""


def add_launch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hosts", metavar="A,B", help="names or addresses, with commas (default: this machine)")
    parser.add_argument(
        "-n",
        dest="ranks",
        type=int,
        metavar="I",
        help="ranks over all hosts (default: one each; in a job of Slurm, its tasks)",
    )
    parser.add_argument("--print", dest="only_print", action="store_true", help="print the command, and start nothing")
    parser.add_argument("program", nargs="*", metavar="-- train ...", help="the command of loopos and its options")


def launch(given: dict[str, Any]) -> Reply:
    program = given.get("program", [])
    if not program or program[0] not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise ValueError(f"launch: after -- comes a command that runs on several processes, {known}, got {program[:1]}")
    ranks = given.get("ranks")
    if ranks is not None:
        checks.count("launch", "n", ranks)
    hosts = [host.strip() for host in given["hosts"].split(",")] if "hosts" in given else []
    if not all(hosts):
        raise ValueError(f"launch: hosts must be names or addresses with commas between them, got {given['hosts']!r}")
    launcher = mpiexec()
    ours = [sys.executable, "-m", "loopos", *program]
    how = launcher, is_open_mpi(launcher), hosts, ranks, ours
    command = command_line(*how)
    if given.get("only_print"):
        return Reply({"command": command}, shlex.join(command))
    command = command_line(*how, own_address(hosts))
    to_stderr(f"loopos launch: {shlex.join(command)}")
    out = sys.stderr if sys.stdout is sys.stderr else None  # with --json nothing else is on stdout
    with subprocess.Popen(command, env=os.environ, stdout=out) as process, _term_goes_on(process):
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:  # mpiexec has it from the terminal too, and tells the ranks
                continue
    return Reply({"command": command, "exit_code": code}, None, code)


@contextmanager
def _term_goes_on(process: subprocess.Popen) -> Iterator[None]:
    """SIGTERM to this process reaches mpiexec, which tells the ranks: else they would go on without it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
