"""The adapter that the options of train ask for."""

from __future__ import annotations

from typing import Any

from loopos.adapters import LoRA
from loopos.adapters.targets import GROUPS

from .options import ADAPTER


def take(asked: dict[str, Any]) -> LoRA | None:
    """Out of the options of train, the keys of ADAPTER; None where there is none of them. ValueError for others without
    a rank."""
    given = {name: asked.pop(name) for name in ADAPTER if name in asked}
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    if not given:
        return None
    if "lora_rank" not in given:
        raise ValueError(f"train: {', '.join(given)} without lora_rank: the rank of the adapter must be given")
    if isinstance(targets := given.get("lora_targets"), str) and targets not in GROUPS:
        given["lora_targets"] = [name.strip() for name in targets.split(",")]
    return LoRA(**{name.removeprefix("lora_"): value for name, value in given.items()})
