"""The rotary positions of config.json, to and from fields of ModelConfig: ``rope_parameters`` of transformers 5, and
``rope_scaling`` with ``rope_theta`` beside it of transformers 4."""

from __future__ import annotations

import math
from typing import Any

from loopos.checks import shown
from loopos.config import ModelConfig

from .reader import Settings, number


def rotary(settings: Settings) -> dict[str, Any]:
    """The base of the rotary frequencies: that of rope_parameters, else the top level's, else 10000."""
    theta = settings.positive("rope_theta", 10000.0)
    old, new = settings.table("rope_scaling"), settings.table("rope_parameters")
    if old and new and old != new:
        raise settings.unsupported("rope_scaling", old, f"it contradicts rope_parameters = {shown(new)}")
    for key, rope in (("rope_parameters", new), ("rope_scaling", old)):
        for name in ("rope_type", "type"):  # first: the other settings belong to the type
            if rope.get(name, "default") != "default":
                raise settings.unsupported(f"{key}.{name}", rope[name], "it must be 'default'")
        for name, value in rope.items():
            if name == "rope_theta":
                where = f"{key}.rope_theta"
                theta = number(settings.path, where, value, "greater than 0", lambda x: 0 < x < math.inf)
            elif name in ("rope_type", "type") or value is None:
                continue
            elif not (name == "partial_rotary_factor" and value in (1, 1.0)):
                raise settings.unsupported(f"{key}.{name}", value, "the default type has no such setting")
    return {"rope_theta": theta}


def rotary_json(c: ModelConfig) -> dict[str, Any]:
    """The settings of :func:`rotary`, for old and new readers."""
    return {
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "rope_theta": c.rope_theta,  # where transformers before 5 looks for it
    }
