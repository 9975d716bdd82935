"""Single operations of PyTorch: torch.nn.functional, backward through autograd on a kept graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from loopos.bench.peers.torch_model import rotate


def operation(
    name: str, backward: bool, arrays: dict[str, np.ndarray], options: dict, dtype: torch.dtype = torch.float32
) -> Callable[[], Any]:
    """A call that does the operation once; the forward of a backward is done here. dtype: of the arrays of numbers."""
    name = name.split(" ")[0]
    a = {key: torch.from_numpy(value) for key, value in arrays.items()}
    a = {key: value.to(dtype) if value.is_floating_point() else value for key, value in a.items()}
    if name == "AdamW":
        return _adamw(a)
    if not backward:

        def forward() -> Any:
            with torch.no_grad():
                return CALLS[name](a, options)

        return forward
    dy = a.pop("dy", None)
    if name == "rope":  # its backward is the rotation the other way: any input will do
        a["x"] = torch.zeros_like(dy)
    if name == "embedding":
        a["weight"] = torch.zeros(options["rows"], dy.shape[-1])
    inputs = [value.requires_grad_() for value in a.values() if value.is_floating_point()]
    y = CALLS[name](a, options)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def _adamw(a: dict[str, torch.Tensor]) -> Callable[[], Any]:
    weight = torch.nn.Parameter(a["weight"])
    weight.grad = a["grad"]
    return torch.optim.AdamW([weight], fused=True).step


def _attention(a: dict[str, torch.Tensor], options: dict) -> torch.Tensor:
    grouped = a["q"].shape[1] != a["k"].shape[1]
    return F.scaled_dot_product_attention(a["q"], a["k"], a["v"], is_causal=True, enable_gqa=grouped)


def _rope(a: dict[str, torch.Tensor], options: dict) -> torch.Tensor:
    if "table" not in options:
        half = a["x"].shape[-1] // 2
        angle = torch.arange(a["x"].shape[2])[:, None] * options["theta"] ** (-torch.arange(half) / half)
        options["table"] = angle.cos(), angle.sin()
    return rotate(a["x"], *options["table"])


CALLS: dict[str, Callable[[dict[str, torch.Tensor], dict], torch.Tensor]] = {
    "linear": lambda a, _: F.linear(a["x"], a["weight"], a.get("bias")),
    "y": lambda a, _: F.linear(a["x"], a["weight"]),
    "dx": lambda a, _: torch.matmul(a["dy"], a["weight"]),
    "dw": lambda a, _: torch.matmul(a["dy"].T, a["x"]),
    "attention": _attention,
    "softmax": lambda a, _: F.softmax(a["x"], dim=-1),
    "cross_entropy": lambda a, _: F.cross_entropy(a["logits"], a["targets"]),
    "embedding": lambda a, _: F.embedding(a["ids"], a["weight"]),
    "layer_norm": lambda a, _: F.layer_norm(a["x"], a["weight"].shape, a["weight"], a["bias"]),
    "rms_norm": lambda a, _: F.rms_norm(a["x"], a["weight"].shape, a["weight"]),
    "gelu": lambda a, _: F.gelu(a["x"], approximate="tanh"),
    "swiglu": lambda a, _: F.silu(a["gate"]) * a["up"],
    "rope": _rope,
    "global_norm": lambda a, _: torch.nn.utils.get_total_norm([a["grad"]]),
}
