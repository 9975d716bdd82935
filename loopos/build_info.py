"""What this build of LoopOS is and what it runs on."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import numpy as np

from loopos import _core, precision

__version__ = "0.1.0"


def configuration() -> dict[str, object]:
    """Version, instruction set, threads and build of this installation. products: what each precision is computed with
    here; tiles: "in use", or why not; precision: of what is given none."""
    return {
        "loopos": __version__,
        "isa": _core.isa(),
        "isa_available": _core.available_isas(),
        "products": precision.products_here(),
        "tiles": precision.why_no_tiles() or "in use",
        "precision": precision.usual("show_config"),
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
    return "\n".join(f"{name:{width}}  {_in_a_line(value)}" for name, value in facts.items())


def _in_a_line(value: object) -> object:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {each}" for name, each in value.items())
    return ", ".join(value) if isinstance(value, list) else value
