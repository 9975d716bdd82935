"""Programs under mpiexec, for the tests of several processes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import loopos

MPIEXEC = Path(sys.executable).parent / "mpiexec"
mpi_needed = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or not MPIEXEC.exists(),
    reason="MPI is absent: pip install mpi4py mpich",
)
TELL = """
def tell(what):
    import json, os
    name = f"told-{int(os.environ.get('PMI_RANK', 0)):03}.json"
    with open(name + ".new", "w") as file:
        json.dump(what, file)
    os.rename(name + ".new", name)
"""
NAMED = ("LOOPOS_NUM_THREADS", "OMP_NUM_THREADS")


def started(script: str, asked: dict[str, Any], ranks: int | None, folder: Path, *more: str, **env: str):
    """A process of mpiexec, or of python alone (ranks None), that runs the script with ``asked`` as JSON; in it
    tell(what) leaves what a rank has to say in ``folder``."""
    folder.mkdir(exist_ok=True, parents=True)
    program = folder / "program.py"
    program.write_text(TELL + script)
    for before in folder.glob("told-*.json"):
        before.unlink()
    command = [sys.executable, str(program), json.dumps(asked)]
    if ranks is not None:
        command = [str(MPIEXEC), *more, "-n", str(ranks), *command]
    whole = {name: value for name, value in os.environ.items() if name not in NAMED}
    whole |= {"PYTHONPATH": root_path()} | env
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=whole, cwd=folder)


def root_path() -> str:
    """PYTHONPATH with this loopos before what is in it."""
    root = str(Path(loopos.__file__).parents[1])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])


def result_of(script: str, asked: dict[str, Any], *, ranks: int | None = None, folder: Path, timeout: float = 60):
    """What each rank told, in their order; the script must end well."""
    with started(script, asked, ranks, folder) as process:
        try:
            _, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    assert process.returncode == 0, err
    return told(folder)


def told(folder: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("told-*.json"))]
