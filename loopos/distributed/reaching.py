"""Before mpiexec starts on other hosts by ssh: whether each can be reached, has what a rank needs, and finds the way
back. MPI's launchers say of most of this nothing that a user could read, and wait for what never comes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .watched import addresses

SSH = ("ssh", "-oBatchMode=yes", "-oConnectTimeout=10")  # asks nothing
ANSWER = 60.0  # seconds in which a host must have answered
BACK = 3.0  # seconds in which a connection back must stand
OTHERWISE = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "HYDRA_LAUNCHER", "HYDRA_LAUNCHER_EXEC")  # not by ssh
_MARK = "loopos-host "
_LOOK = """
import importlib.util, json, os, socket, threading
asked, found = json.loads(ASKED), {"folder": True, "back": []}
try:
    os.chdir(asked["folder"])
except OSError:
    found["folder"] = False
specs = {name: importlib.util.find_spec(name) for name in ("loopos", "mpi4py")}
found["absent"] = [name for name, spec in specs.items() if spec is None or spec.origin is None]
def back(name):
    try:
        socket.create_connection((name, asked["port"]), asked["seconds"]).close()
        found["back"].append(name)
    except OSError:
        pass
names = asked["names"] + os.environ.get("SSH_CONNECTION", "").split()[:1]
tries = [threading.Thread(target=back, args=(name,)) for name in dict.fromkeys(names)]
for each in tries: each.start()
for each in tries: each.join()
print("\\nMARK" + json.dumps(found), flush=True)
"""


def is_here(host: str) -> bool:
    """Whether this is a name or an address of this machine, on which a launcher starts ranks without ssh."""
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None, socket.AF_INET)}
    except OSError:
        return False
    return bool(found & set(addresses())) or any(each.startswith("127.") for each in found)


def own_address(hosts: Sequence[str]) -> str | None:
    """What mpiexec must be told as the address of this machine, where the hosts do not reach it by its name; else None.
    ConnectionError with a sentence for each host where no rank could start."""
    far = [host for host in hosts if not is_here(host)]
    if not far or any(name in os.environ for name in OTHERWISE):
        return None
    if shutil.which(SSH[0]) is None:
        raise ConnectionError("launch: there is no ssh here, by which ranks are started on other hosts")
    name = socket.gethostname()
    with socket.create_server(("", 0), backlog=1024) as listener, ThreadPoolExecutor(min(64, len(far))) as pool:
        asked = {
            "folder": os.getcwd(),
            "port": listener.getsockname()[1],
            "names": [name, *(each for each in addresses() if not each.startswith("127."))],
            "seconds": BACK,
        }
        answers = list(pool.map(lambda host: _look(host, asked), far))
    complaints = [said for host, answer in zip(far, answers, strict=True) for said in _complaints(host, answer, name)]
    if complaints:
        raise ConnectionError("launch: " + "; ".join(complaints))
    common = [each for each in answers[0]["back"] if all(each in answer["back"] for answer in answers)]
    if not common:
        raise ConnectionError(f"launch: there is no one address by which all of {', '.join(far)} reach this machine")
    return None if name in common else common[0]


def _look(host: str, asked: dict[str, Any]) -> dict[str, Any] | str:
    """What was found there, or why nothing was."""
    path = os.environ.get("PYTHONPATH")
    words = [*(["env", f"PYTHONPATH={path}"] if path else []), sys.executable, "-"]
    script = _LOOK.replace("MARK", _MARK).replace("ASKED", repr(json.dumps(asked)))
    try:
        done = subprocess.run(
            [*SSH, host, shlex.join(words)], input=script, capture_output=True, text=True, timeout=ANSWER, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it has not answered in {ANSWER:.0f} s"
    told = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if told:
        return json.loads(told[-1].removeprefix(_MARK))
    said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
    return f"{said} (ssh {host} true must work without a question)" if done.returncode == 255 else said


def _complaints(host: str, answer: dict[str, Any] | str, name: str) -> list[str]:
    if isinstance(answer, str):
        return [f"on {host} {sys.executable} cannot be started: {answer}"]
    found = [] if answer["folder"] else [f"{host} has no folder {os.getcwd()}, in which ranks start"]
    found += [f"{sys.executable} on {host} has no {absent}" for absent in answer["absent"]]
    if not answer["back"]:
        found.append(f"{host} cannot open a connection to this machine ({name}), as ranks must: is a firewall between?")
    return found
