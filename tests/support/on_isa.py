"""The environment of a program that measures on one instruction set."""

from __future__ import annotations

import os
from pathlib import Path

import loopos


def environment(isa: str) -> dict[str, str]:
    """With this loopos and tests/support on the path."""
    places = [Path(loopos.__file__).parents[1], Path(__file__).parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "LOOPOS_ISA": isa, "PYTHONPATH": os.pathsep.join(map(str, places))}
