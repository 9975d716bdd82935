"""The activations of the feed-forward, a row each. ModelConfig, the command line, Hugging Face folders, the doctor and
the causes of births read this table and list no names of their own.

A new activation is a row here and a row in ``cpp/ops/activation.cpp``. The core says which of the rows it computes
(``_core.choices()``): others are known by name and refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from loopos import _core

ActivationName = Literal["gelu_tanh", "gelu", "relu", "swiglu", "silu", "relu2", "geglu", "geglu_tanh"]


class Activation(NamedTuple):
    """gated: down(f(gate x) * up x), three matrices; else down(f(up x)). f: its name in FUNCTIONS. op: what the core
    calls the operation. there: what config.json of Hugging Face calls f (activation_function, hidden_act), the name to
    write first; a family takes those that it has."""

    gated: bool
    f: str
    op: str
    there: tuple[str, ...] = ()


class Function(NamedTuple):
    """of: x -> (f(x), f'(x)), in the dtype of x, long double too; ``loopos.ops.activation`` computes it by its name.
    formula: in words. squared: f(x) is x times x where it is large. steepest: the largest |f'|, None where it has none.
    """

    of: Callable[[Any], tuple[Any, Any]]
    formula: str
    squared: bool = False
    steepest: float | None = None


def _relu(x: Any) -> tuple[Any, Any]:
    return np.maximum(x, 0), np.where(x > 0, x * 0 + 1, x * 0)


def _relu2(x: Any) -> tuple[Any, Any]:
    positive = np.maximum(x, 0)
    return positive * positive, 2 * positive


def _silu(x: Any) -> tuple[Any, Any]:
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-x))
    return x * sigmoid, sigmoid * (1 + x * (1 - sigmoid))


def _gelu(x: Any) -> tuple[Any, Any]:
    normal = (1 + np.asarray(np.frompyfunc(math.erf, 1, 1)(x / np.sqrt(2.0)), np.float64)) / 2
    return x * normal, normal + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu_tanh(x: Any) -> tuple[Any, Any]:
    root, cubic = math.sqrt(2 / math.pi), 0.044715
    t = np.tanh(root * (x + cubic * x**3))
    return x * (1 + t) / 2, (1 + t) / 2 + x * (1 - t * t) / 2 * root * (1 + 3 * cubic * x * x)


FUNCTIONS: dict[str, Function] = {
    "relu": Function(_relu, "max(0, x)", steepest=1.0),
    "relu2": Function(_relu2, "max(0, x)^2", squared=True),
    "silu": Function(_silu, "x sigmoid(x)", steepest=1.1),
    "gelu": Function(_gelu, "x Phi(x)", steepest=1.13),
    "gelu_tanh": Function(_gelu_tanh, "x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2", steepest=1.13),
}
ROWS: dict[str, Activation] = {
    "gelu_tanh": Activation(False, "gelu_tanh", "gelu", ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")),
    "gelu": Activation(False, "gelu", "gelu", ("gelu",)),
    "relu": Activation(False, "relu", "relu", ("relu",)),
    "swiglu": Activation(True, "silu", "swiglu", ("silu", "swish")),
    "silu": Activation(False, "silu", "silu", ("silu", "swish")),
    "relu2": Activation(False, "relu2", "relu2", ("relu2",)),
    "geglu": Activation(True, "gelu", "geglu", ("gelu",)),
    "geglu_tanh": Activation(True, "gelu_tanh", "geglu_tanh", ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")),
}
assert tuple(ROWS) == get_args(ActivationName)

_COMPUTED = _core.choices()
ACTIVATIONS: dict[str, Activation] = {name: ROWS[name] for name in _COMPUTED["activation"]}
NORMS: tuple[str, ...] = _COMPUTED["norm"]
POSITIONS: tuple[str, ...] = _COMPUTED["position"]
ATTENTION_BIASES: tuple[str, ...] = _COMPUTED["attention_bias"]
QK_NORMS: tuple[str, ...] = _COMPUTED["qk_norm"]
NORM_PLACEMENTS: tuple[str, ...] = _COMPUTED["norm_placement"]
GATES: tuple[str, ...] = _COMPUTED["gate"]


def named_there(*names: str, gated: bool) -> dict[str, str]:
    """Activations by their names in config.json of Hugging Face, ours: those of ``names``, or all. gated: of a
    feed-forward with a gate."""
    rows = [(ours, row) for ours, row in ACTIVATIONS.items() if row.gated == gated]
    return {theirs: ours for ours, row in rows for theirs in row.there if not names or theirs in names}
