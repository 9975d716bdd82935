"""The preset "safe" of a captioner's training: what the table of case 0's ten fixes supports, and nothing else.

``benchmarks/ten_fixes.py`` measures each fix alone on a captioner; docs/captioning.md has the table and its reading. A
setting is here because it changed what a broken batch does, for two seeds of three or for all, and cost nothing where
none was broken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

NAME = "safe"


class Setting(NamedTuple):
    """A keyword's value for loopos.train, and what it was measured to do."""

    value: Any
    why: str


SETTINGS: dict[str, Setting] = {
    "max_grad_norm": Setting(
        1.0,
        "behind a batch with logits of hundreds the loss was lower for two seeds of three, the same for one; where no "
        "batch is broken it costs nothing (measured with Adam)",
    ),
    "on_nonfinite": Setting(
        "halt",
        "a number that is not finite ends the run with finite weights and says where it was born; it costs no bit",
    ),
}
SAFE: dict[str, Any] = {name: each.value for name, each in SETTINGS.items()}


def parted(preset: str) -> tuple[str | None, bool]:
    """Of "safe", "nano_8gb" or "nano_8gb,safe": (the size or None, whether safe is among them). ValueError for two
    sizes."""
    names = [name.strip() for name in preset.split(",") if name.strip()]
    sizes = [name for name in names if name != NAME]
    if len(sizes) > 1:
        raise ValueError(f"preset takes one size, and {NAME} beside it, got {preset!r}")
    return (sizes[0] if sizes else None), NAME in names


def applied(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(the settings with those of the preset, a sentence for each of those). ``given``: settings by name, "preset" as
    :func:`parted` takes it; what is given wins, and the sentence says so."""
    found = dict(given)
    if found.get("preset") is None:
        return found, []
    size, safe = parted(found.pop("preset"))
    if size is not None:
        found["preset"] = size
    if not safe:
        return found, []
    told = []
    for name, (value, why) in SETTINGS.items():
        if name in found and found[name] != value:
            told.append(f"preset {NAME}: {name} stays {found[name]}, as given, not {value} ({why})")
        else:
            found[name] = value
            told.append(f"preset {NAME}: {name} {value} ({why})")
    return found, told
