"""The adapter that the options of train ask for."""

from __future__ import annotations

from typing import Any

from loopos import checks
from loopos.adapters import LoRA, Modulated
from loopos.adapters.kinds import KINDS
from loopos.adapters.targets import GROUPS

from .options import ADAPTER

_OF_MODULATED = {"adapter_gate": "gate", "safe_mode": "safe_mode"}


def take(asked: dict[str, Any]) -> LoRA | Modulated | None:
    """Out of the options of train, the keys of ADAPTER; None where there is none of them. ValueError for others without
    a rank, and for those of another kind of adapter."""
    given = {name: asked.pop(name) for name in ADAPTER if name in asked}
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    if not given:
        return None
    kind = checks.choice("train", "adapter", given.pop("adapter", "lora"), tuple(KINDS))
    others = [name for name in given if name != "adapter_rank" and (name in _OF_MODULATED) != (kind == "modulated")]
    if others:
        of = "modulated" if kind == "lora" else "lora"
        raise ValueError(f"train: {', '.join(others)} belong to --adapter {of}, got --adapter {kind}")
    return _modulated(given) if kind == "modulated" else _lora(given)


def _modulated(given: dict[str, Any]) -> Modulated:
    rank = {"rank": given["adapter_rank"]} if "adapter_rank" in given else {}
    return Modulated(**rank, **{field: given[name] for name, field in _OF_MODULATED.items() if name in given})


def _lora(given: dict[str, Any]) -> LoRA:
    rank = given.pop("adapter_rank", None)
    if given.setdefault("lora_rank", rank) != rank and rank is not None:
        raise ValueError(f"train: lora_rank {given['lora_rank']} and adapter_rank {rank} say the same thing; give one")
    if given["lora_rank"] is None:
        del given["lora_rank"]
        named = ", ".join(given) or "adapter"
        raise ValueError(f"train: {named} without lora_rank: the rank of the adapter must be given")
    if isinstance(targets := given.get("lora_targets"), str) and targets not in GROUPS:
        given["lora_targets"] = [name.strip() for name in targets.split(",")]
    return LoRA(**{name.removeprefix("lora_"): value for name, value in given.items()})
