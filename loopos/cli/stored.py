"""What `loopos info` says of weights that are stored small."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from loopos.model import Model


def facts(model: Model) -> dict[str, Any]:
    """Of one whose weights are stored small: how many bytes they take and how far they are from what was given."""
    if not (errors := model.storage_errors()):
        return {}
    return {
        "weights": model.weights,
        "bytes_of_weights": sum(each["bytes"] for each in errors.values()),
        "largest_storage_error": max(each["relative"] for each in errors.values()),
        "storage_errors": errors,
    }


def by_part(errors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """As text a line for each kind of weight, whatever its block: its storage, its errors, and the worst block."""
    parts: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, each in errors.items():
        parts.setdefault(re.sub(r"^blocks\.\d+\.", "", name), {})[name] = each
    told: dict[str, Any] = {}
    if parts:
        told["storage_errors"] = "root of sum (stored - given)^2 / sum given^2; the rest is in --json"
    for part, each in parts.items():
        relative = {name: error["relative"] for name, error in each.items()}
        worst = max(relative, key=lambda name: relative[name])
        least = f"{min(relative.values()):.4f} to " if len(each) > 1 else ""
        where = f" ({worst})" if len(each) > 1 else ""
        told[f"error of {part}"] = f"{each[worst]['storage']}, {least}{relative[worst]:.4f}{where}"
    return told
