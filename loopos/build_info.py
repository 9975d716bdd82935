"""What this build of LoopOS is and what it runs on."""

from __future__ import annotations

import platform

import numpy as np

from loopos import _core

__version__ = "0.1.0"


def show_config() -> dict[str, object]:
    """Prints version, instruction set, threads and build of this installation, and returns the same as a dict."""
    facts: dict[str, object] = {
        "loopos": __version__,
        "isa": _core.isa(),
        "isa_available": _core.available_isas(),
        "threads": _core.get_num_threads(),
        **_core.build_info(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {', '.join(value) if isinstance(value, list) else value}")
    return facts
