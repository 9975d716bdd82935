"""The precisions of our products that this machine computes, and which engines they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopos import _core
from loopos.precision import PRECISIONS

from .process import chosen

OURS = {"float32": "loopos", "bf16x3": "loopos-bf16x3", "bf16": "loopos-bf16"}  # engines of loopos.bench.process

# PyTorch's float32 promises what our float32 and, nearly, bf16x3 do; its "medium" and autocast what our bf16 does.
RIVALS = {
    "float32": ("torch", "torch-compiled"),
    "bf16x3": ("torch", "torch-compiled"),
    "bf16": ("torch-medium", "torch-autocast"),
}


def computed(precision: str) -> str:
    """What float32 products of this precision are computed with here: "fma", or "tiles" or "emulated" and its name."""
    return _core.products(precision)


def why_not() -> str:
    """What this machine lacks where tiles are not used, else ""."""
    return _core.products_info()["why"]


def named(names: str | None) -> list[str]:
    """The precisions of a list with commas between, each once and in our order; None: all. ValueError for another
    name."""
    return sorted(chosen(names, PRECISIONS, "precision"), key=PRECISIONS.index)


def distinct(precisions: Sequence[str]) -> list[str]:
    """Those of ``precisions`` that this machine computes apart. One whose products are float32's is measured as
    float32, once."""
    same = computed("float32")
    return list(dict.fromkeys("float32" if computed(each) == same else each for each in precisions))


def engines(peers: Sequence[str], precisions: Sequence[str]) -> list[str]:
    """``peers`` with our engine in each of the precisions, where it stands among them."""
    ours = [OURS[each] for each in distinct(precisions)]
    return [name for peer in peers for name in (ours if peer == "loopos" else [peer])]


def describe(precisions: Sequence[str]) -> dict[str, Any]:
    """For the record: what the products of each precision that was asked for are computed with, and what is lacking."""
    return {"computed": {each: computed(each) for each in precisions}, "why": why_not()}


def sentence(products: dict[str, Any]) -> str:
    """:func:`describe` in words."""
    used = products["computed"]
    same = [name for name, what in used.items() if name != "float32" and what == "fma"]
    told = ", ".join(f"{name} {what}" for name, what in used.items() if name not in same)
    lacking = products["why"] or "tiles are not used"
    if not same:
        return f"Products: {told}." + (f" No tiles: {lacking}." if products["why"] else "")
    which, would = " and ".join(same), "is" if len(same) == 1 else "are"
    once = f"{which} {would} computed as float32 here, which is measured once: {lacking}."
    return f"Products: {told or 'float32 fma'}. {once}"


def beside(peers: Sequence[dict[str, Any]], precision: str, figure: Any) -> float | None:
    """The least ``figure(peer)`` of the rivals of our engine in this precision over its own; None where either is
    absent. peers: of a record, each engine once."""
    found = {each["peer"]: figure(each) for each in peers}
    theirs = [found[name] for name in RIVALS[precision] if name in found]
    ours = found.get(OURS[precision])
    return min(theirs) / ours if theirs and ours is not None else None
