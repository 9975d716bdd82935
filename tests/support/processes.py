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


def in_process(*command: Any, **variables: str | None) -> Any:
    """The JSON that Python prints when it is called so, with these environment variables; None: without one."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, **variables}
    env = {name: value for name, value in env.items() if value is not None}
    run = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@cache
def why_no_tiles() -> str:
    """Why this machine computes nothing on tiles; "" where it does."""
    code = "import json; from loopos import _core; print(json.dumps(_core.products_info()))"
    info = in_process("-c", code, LOOPOS_PRODUCTS=None)
    return "" if info["chosen"] == "tiles" else info["why"]
