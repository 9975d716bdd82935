"""What this build of LoopOS is and what it runs on."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import numpy as np

from loopos import _core

__version__ = "0.1.0"


def configuration() -> dict[str, object]:
    """Version, instruction set, threads and build of this installation."""
    return {
        "loopos": __version__,
        "isa": _core.isa(),
        "isa_available": _core.available_isas(),
        "threads": _core.get_num_threads(),
        **_core.build_info(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


def show_config() -> dict[str, object]:
    """Prints version, instruction set, threads and build of this installation, and returns the same as a dict."""
    facts = configuration()
    print(as_text(facts))
    return facts


def as_text(facts: Mapping[str, object]) -> str:
    """A line each."""
    width = max(map(len, facts))
    shown = {name: ", ".join(value) if isinstance(value, list) else value for name, value in facts.items()}
    return "\n".join(f"{name:{width}}  {value}" for name, value in shown.items())
