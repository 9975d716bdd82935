"""Python in a process of its own, for what is chosen once in a process: LOOPOS_PRODUCTS and the like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def started(*command: Any, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Python, called so, with these environment variables; None: without one."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, **variables}
    env = {name: value for name, value in env.items() if value is not None}
    return subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=False)


def in_process(*command: Any, **variables: str | None) -> Any:
    """The JSON that it prints."""
    run = started(*command, **variables)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@cache
def why_no(products: str) -> str:
    """Why this machine, or LOOPOS_ISA, has no such products; "" where it has."""
    run = started("-c", "import loopos", LOOPOS_PRODUCTS=products)
    refusal = f"LOOPOS_PRODUCTS={products}: "
    assert run.returncode == 0 or refusal in run.stderr, run.stderr
    return run.stderr.rpartition(refusal)[2].strip() if run.returncode else ""
