"""Tensors inside what a program hands around: tuples, lists, dicts, objects with fields (outputs of transformers)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(path, tensor) of every tensor within."""
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping) or (hasattr(value, "data") and isinstance(getattr(value, "data", None), Mapping)):
        items = value.items() if isinstance(value, Mapping) else value.data.items()
        for key, part in items:
            yield from tensors(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, tuple | list):
        for at, part in enumerate(value):
            yield from tensors(part, f"{name}[{at}]")
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from tensors(getattr(value, each.name), f"{name}.{each.name}" if name else each.name)


def mapped(value: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """The same structure with each tensor replaced by ``change(path, tensor)``. Objects of other kinds stay."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(name, value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(part, change, f"{name}[{at}]") for at, part in enumerate(value)))
    if isinstance(value, tuple | list):
        return type(value)(mapped(part, change, f"{name}[{at}]") for at, part in enumerate(value))
    if isinstance(value, dict) or type(value).__name__ == "BatchEncoding":
        parts = {key: mapped(part, change, f"{name}.{key}" if name else str(key)) for key, part in value.items()}
        return type(value)(parts)
    return value


def cloned(value: Any) -> Any:
    return mapped(value, lambda _, tensor: tensor.detach().clone().requires_grad_(tensor.requires_grad))


def scalar(result: Any) -> Any:
    """The loss out of what a loss function returned: a tensor, the first of a tuple, ``.loss`` or ["loss"]."""
    import torch

    if isinstance(result, torch.Tensor):
        loss = result
    elif isinstance(result, Mapping) and "loss" in result:
        loss = result["loss"]
    elif getattr(result, "loss", None) is not None:
        loss = result.loss
    elif isinstance(result, tuple | list) and result and isinstance(result[0], torch.Tensor):
        loss = result[0]
    else:
        raise TypeError(f"doctor: loss_fn must return a scalar tensor, got {type(result).__name__}")
    if loss.numel() != 1:
        raise TypeError(f"doctor: loss_fn must return a scalar, got a tensor of shape {tuple(loss.shape)}")
    return loss.reshape(())
