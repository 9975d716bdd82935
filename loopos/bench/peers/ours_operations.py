"""Single operations of LoopOS, through loopos.ops and loopos.optim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from loopos import _core, ops, optim


def operation(
    name: str, backward: bool, a: dict[str, np.ndarray], options: dict, precision: str = "float32"
) -> Callable[[], Any]:
    """A call that does the operation once. What a backward needs of its forward is computed here. precision: of
    products."""
    name, options = name.split(" ")[0], options | {"how": {"precision": precision}}
    return BACKWARD[name](a, options) if backward else FORWARD[name](a, options)


def _linear(a: dict, options: dict) -> Callable[[], Any]:
    bias, how = a.get("bias"), options["how"]
    return lambda: ops.linear(a["x"], a["weight"], bias, **how)


def _linear_backward(a: dict, options: dict) -> Callable[[], Any]:
    has_bias, how = "bias" in a, options["how"]
    return lambda: ops.linear_backward(a["dy"], a["x"], a["weight"], has_bias, **how)


def _weight_gradient(a: dict, options: dict) -> Callable[[], Any]:
    how = options["how"]
    return lambda: _core.machine.weight_gradient(a["dy"], a["x"], **how)


def _rope(a: dict, options: dict) -> tuple[np.ndarray, float]:
    x = a.get("x", a.get("dy"))
    return np.arange(x.shape[2]), options["theta"]


def _rope_forward(a: dict, options: dict) -> Callable[[], Any]:
    positions, theta = _rope(a, options)
    return lambda: ops.rope(a["x"], positions, theta=theta)


def _rope_backward(a: dict, options: dict) -> Callable[[], Any]:
    positions, theta = _rope(a, options)
    return lambda: ops.rope_backward(a["dy"], positions, theta=theta)


def _adamw(a: dict, options: dict) -> Callable[[], Any]:
    optimizer = optim.AdamW({"weight": a["weight"]}, 1e-3)
    grads = {"weight": a["grad"]}
    return lambda: optimizer.step(grads)


def _attention_backward(a: dict, options: dict) -> Callable[[], Any]:
    how = {"causal": True} | options["how"]
    y, lse = ops.attention(a["q"], a["k"], a["v"], **how)
    return lambda: ops.attention_backward(a["dy"], a["q"], a["k"], a["v"], y, lse, **how)


def _softmax_backward(a: dict, options: dict) -> Callable[[], Any]:
    y = ops.softmax(a["x"])
    return lambda: ops.softmax_backward(a["dy"], y)


def _layer_norm_backward(a: dict, options: dict) -> Callable[[], Any]:
    _, mean, rstd = ops.layer_norm(a["x"], a["weight"], a["bias"])
    return lambda: ops.layer_norm_backward(a["dy"], a["x"], a["weight"], mean, rstd)


def _rms_norm_backward(a: dict, options: dict) -> Callable[[], Any]:
    _, rstd = ops.rms_norm(a["x"], a["weight"])
    return lambda: ops.rms_norm_backward(a["dy"], a["x"], a["weight"], rstd)


FORWARD: dict[str, Callable[[dict, dict], Callable[[], Any]]] = {
    "linear": _linear,
    "y": _linear,
    "dx": lambda a, o: lambda: ops.matmul(a["dy"], a["weight"], **o["how"]),
    "dw": _weight_gradient,
    "attention": lambda a, o: lambda: ops.attention(a["q"], a["k"], a["v"], causal=True, **o["how"]),
    "softmax": lambda a, _: lambda: ops.softmax(a["x"]),
    "cross_entropy": lambda a, _: lambda: ops.cross_entropy(a["logits"], a["targets"]),
    "embedding": lambda a, _: lambda: ops.embedding(a["ids"], a["weight"]),
    "layer_norm": lambda a, _: lambda: ops.layer_norm(a["x"], a["weight"], a["bias"]),
    "rms_norm": lambda a, _: lambda: ops.rms_norm(a["x"], a["weight"]),
    "gelu": lambda a, _: lambda: ops.gelu(a["x"], approximate="tanh"),
    "swiglu": lambda a, _: lambda: ops.swiglu(a["gate"], a["up"]),
    "rope": _rope_forward,
    "AdamW": _adamw,
    "global_norm": lambda a, _: lambda: ops.global_norm([a["grad"]]),
}
BACKWARD: dict[str, Callable[[dict, dict], Callable[[], Any]]] = {
    "linear": _linear_backward,
    "attention": _attention_backward,
    "softmax": _softmax_backward,
    "cross_entropy": lambda a, _: lambda: ops.cross_entropy_backward(1.0, a["logits"], a["targets"]),
    "embedding": lambda a, options: lambda: ops.embedding_backward(a["dy"], a["ids"], options["rows"]),
    "layer_norm": _layer_norm_backward,
    "rms_norm": _rms_norm_backward,
    "gelu": lambda a, _: lambda: ops.gelu_backward(a["dy"], a["x"], approximate="tanh"),
    "swiglu": lambda a, _: lambda: ops.swiglu_backward(a["dy"], a["gate"], a["up"]),
    "rope": _rope_backward,
}
