"""The element of an operation's output that is not finite, and what it was made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .finite import plain
from .rows import ROWS


@dataclass
class Found:
    """index: into the output; value; operands: by name, a number or a row of numbers (float64); kind: how they belong
    together: "elements" (of a pointwise operation), "dot" (two rows, multiplied and added up), "row" (one that is
    reduced or normalised), "whole" (no more is known), "empty"; attributes: scalars of the call; dtype of the output;
    number: which of several outputs."""

    index: tuple[int, ...]
    value: float
    operands: dict[str, Any]
    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    number: int | None = None
    part: str = ""  # of a complex number: "real" or "imaginary"


def find(
    func: Any, operands: dict[str, Any], output: torch.Tensor, number: int | None, legal: bool, only_born: bool = False
) -> Found | None:
    """The first element that this operation bore. legal: operands have infinities that the program wrote, or others
    that passed through; only_born: None when every bad element has an operand that was bad."""
    pointwise = torch.Tag.pointwise in func.tags
    bad = ~torch.isfinite(_real(output)) if not output.is_complex() else ~torch.isfinite(output)
    if legal and pointwise:
        reached = bad & ~spoiled(operands, output)
        if only_born and not bool(reached.any()):
            return None
        bad = reached if bool(reached.any()) else bad & torch.isnan(output)
    elif legal and bool(torch.isnan(output).any()):
        bad = torch.isnan(output)
    if not bool(bad.any()):
        bad = ~torch.isfinite(output)
    flat = int(bad.reshape(-1).to(torch.uint8).argmax())
    index = tuple(int(at) for at in np.unravel_index(flat, tuple(output.shape))) if output.ndim else ()
    value, part = _value(output[index])
    short = func._schema.name.partition("::")[2]
    kind, found = "elements", None
    if pointwise or short in _AS_POINTWISE:
        found = _elements(operands, output, index)
    else:
        kind, found = _rows(short, operands, output, index, number)
    attributes = {
        name: each for name, each in operands.items() if isinstance(each, (bool, int, float, str, complex, list))
    }
    attributes = {name: each for name, each in attributes.items() if not _holds_tensor(each)}
    return Found(index, value, found, kind, attributes, str(output.dtype).removeprefix("torch."), number, part)


_AS_POINTWISE = {"_to_copy", "masked_fill", "masked_fill_", "clamp", "add_", "sub_", "mul_", "div_"}


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, (torch.Tensor, list)) for each in value)


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.itemsize == 1 else tensor


def _value(element: torch.Tensor) -> tuple[float, str]:
    if not element.is_complex():
        return float(element), ""
    real, imaginary = float(element.real), float(element.imag)
    return (real, "real") if not math.isfinite(real) else (imaginary, "imaginary")


def spoiled(operands: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
    """Where an operand of a pointwise operation is not finite itself."""
    spoiled = torch.zeros_like(output, dtype=torch.bool)
    for value in operands.values():
        if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
            try:
                spoiled |= ~torch.isfinite(value).broadcast_to(output.shape)
            except RuntimeError:
                continue
    return spoiled


def _elements(operands: dict[str, Any], output: torch.Tensor, index: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in operands.items():
        if not isinstance(value, torch.Tensor):
            continue
        try:
            element = value.broadcast_to(output.shape)[index]
        except RuntimeError:
            continue
        found[name] = _number(element)
    return found


def _number(element: torch.Tensor) -> Any:
    if element.is_complex():
        return complex(element)
    return float(element)


def _rows(
    short: str, operands: dict[str, Any], output: torch.Tensor, index: tuple[int, ...], number: int | None
) -> Any:
    pick = ROWS.get(short)
    if pick is not None:
        try:
            found = pick(operands, output, index, number)
        except (RuntimeError, IndexError, KeyError, TypeError, ValueError, AttributeError):
            found = None
        if found is not None:
            return found
    tensors = {name: each for name, each in operands.items() if isinstance(each, torch.Tensor)}
    return "whole", {
        name: _summary(plain(each)) for name, each in tensors.items() if each.is_floating_point() or each.is_complex()
    }


def _summary(tensor: torch.Tensor) -> dict[str, float | int]:
    """As births have it: how many, the least, the greatest, and the one that is largest in magnitude."""
    values = tensor.reshape(-1).double()
    finite = values[torch.isfinite(values)]
    if not finite.numel():
        return {"count": values.numel()}
    at = int(torch.where(torch.isfinite(values), values.abs(), -1.0).argmax())
    low, high = float(finite.min()), float(finite.max())
    return {"count": values.numel(), "min": low, "max": high, "at": at, "value": float(values[at])}
