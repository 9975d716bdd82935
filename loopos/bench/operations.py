"""The operations of a step at the shapes of a setting, and what each must compute and move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .settings import Setting

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Operation:
    """One operation, forward or backward, on arrays made by :func:`make_arrays`.

    flops: of matrix products alone; numbers: float32 numbers that must be read or written once, results included. Both
    by definition of the operation, so that an engine which does more gets no credit for it."""

    name: str
    backward: bool
    shape: str
    arrays: list[list[Any]]  # [name, shape] of normal numbers, [name, shape, high] of ids below high
    flops: int
    numbers: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return FLOAT * self.numbers

    @property
    def direction(self) -> str:
        return "backward" if self.backward else "forward"


def make_arrays(arrays: Sequence[Sequence[Any]]) -> dict[str, np.ndarray]:
    """The arrays of an Operation by name, the same numbers in every process."""
    rng = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    for name, shape, *high in arrays:
        if high:
            made[name] = rng.integers(0, high[0], shape)
        else:
            made[name] = rng.standard_normal(shape, dtype=np.float32)
    return made


def of(setting: Setting) -> list[Operation]:
    """Every operation of a training step of this setting, forward then backward."""
    config, N = setting.config, setting.tokens
    C, F, V = config.d_model, config.d_ff, config.vocab_size
    keys = config.n_kv_head * config.head_width
    found = [
        *linear("linear (qkv)", N, C, C + 2 * keys, config.bias),
        *linear("linear (up)", N, C, F, config.bias),
        *linear("linear (down)", N, F, C, config.bias),
        *linear("linear (head)", N, C, V, False),
        *attention(setting),
        *rows("softmax", setting.batch * config.n_head * setting.length, setting.length),
        *cross_entropy(N, V),
        *embedding(N, V, C),
    ]
    found += norm("layer_norm", N, C) if config.norm == "layernorm" else norm("rms_norm", N, C)
    found += swiglu(N, F) if config.gated else rows("gelu", N, F)
    if config.position == "rope":
        found += rope(setting)
    return found + update(12 * C * C)


def products(setting: Setting) -> list[Operation]:
    """The matrix products of a training step one by one: of each linear layer y = x Wᵀ, dx = dy W and dw = dyᵀ x,
    without bias; and attention, forward and backward."""
    config, N = setting.config, setting.tokens
    C, F, V = config.d_model, config.d_ff, config.vocab_size
    keys = config.n_kv_head * config.head_width
    sizes = {"qkv": (C, C + 2 * keys), "up": (C, F), "down": (F, C), "head": (C, V)}
    found = []
    for name, (inputs, outputs) in sizes.items():
        x, weight, dy = ["x", [N, inputs]], ["weight", [outputs, inputs]], ["dy", [N, outputs]]
        flops, numbers = 2 * N * inputs * outputs, N * inputs + inputs * outputs + N * outputs
        for made, arrays, shape in (
            ("y", [x, weight], (N, inputs, outputs)),
            ("dx", [dy, weight], (N, outputs, inputs)),
            ("dw", [dy, x], (outputs, N, inputs)),
        ):
            found.append(Operation(f"{made} ({name})", False, " × ".join(map(str, shape)), arrays, flops, numbers))
    return found + attention(setting)


def linear(name: str, N: int, inputs: int, outputs: int, bias: bool) -> list[Operation]:
    arrays = [["x", [N, inputs]], ["weight", [outputs, inputs]], *([["bias", [outputs]]] if bias else [])]
    sizes = N * inputs + inputs * outputs + (outputs if bias else 0)
    shape, flops = f"{N} × {inputs} → {outputs}", 2 * N * inputs * outputs
    forward = Operation(name, False, shape, arrays, flops, sizes + N * outputs)
    backward = [["dy", [N, outputs]], *arrays]  # reads dy, x, weight; writes a gradient as large as each input
    return [forward, Operation(name, True, shape, backward, 2 * flops, N * outputs + 2 * sizes)]


def attention(setting: Setting) -> list[Operation]:
    config, B, T = setting.config, setting.batch, setting.length
    H, G, D = config.n_head, config.n_kv_head, config.head_width
    q, kv = [B, H, T, D], [B, G, T, D]
    arrays = [["q", q], ["k", kv], ["v", kv]]
    flops = 2 * 2 * B * H * D * (T * (T + 1) // 2)
    reads, result = B * (H + 2 * G) * T * D, B * H * T * D
    shape = f"{B} × {H} × {T} × {D}" + (f", {G} key/value heads" if G != H else "")
    return [
        Operation("attention (causal)", False, shape, arrays, flops, reads + result),
        Operation("attention (causal)", True, shape, [["dy", q], *arrays], 2 * flops, 2 * reads + 2 * result),
    ]


def rows(name: str, N: int, width: int) -> list[Operation]:
    """An operation from (N, width) to (N, width), number by number or row by row."""
    size, shape = N * width, f"{N} × {width}"
    arrays = [["x", [N, width]]]
    return [
        Operation(name, False, shape, arrays, 0, 2 * size),
        Operation(name, True, shape, [["dy", [N, width]], *arrays], 0, 3 * size),
    ]


def norm(name: str, N: int, C: int) -> list[Operation]:
    vectors = 2 if name == "layer_norm" else 1
    arrays = [["x", [N, C]], ["weight", [C]], *([["bias", [C]]] if vectors == 2 else [])]
    forward = Operation(name, False, f"{N} × {C}", arrays, 0, 2 * N * C + vectors * C)
    backward = [["dy", [N, C]], *arrays]
    return [forward, Operation(name, True, f"{N} × {C}", backward, 0, 3 * N * C + vectors * C + C)]


def swiglu(N: int, F: int) -> list[Operation]:
    arrays = [["gate", [N, F]], ["up", [N, F]]]
    forward = Operation("swiglu", False, f"{N} × {F}", arrays, 0, 3 * N * F)
    return [forward, Operation("swiglu", True, f"{N} × {F}", [["dy", [N, F]], *arrays], 0, 5 * N * F)]


def cross_entropy(N: int, V: int) -> list[Operation]:
    arrays = [["logits", [N, V]], ["targets", [N], V]]
    return [
        Operation("cross_entropy", False, f"{N} × {V}", arrays, 0, N * V),
        Operation("cross_entropy", True, f"{N} × {V}", arrays, 0, 2 * N * V),
    ]


def embedding(N: int, V: int, C: int) -> list[Operation]:
    ids = ["ids", [N], V]
    return [
        Operation("embedding", False, f"{N} of {V} × {C}", [ids, ["weight", [V, C]]], 0, 2 * N * C),
        Operation("embedding", True, f"{N} of {V} × {C}", [["dy", [N, C]], ids], 0, N * C + V * C, {"rows": V}),
    ]


def rope(setting: Setting) -> list[Operation]:
    config = setting.config
    x = [setting.batch, config.n_head, setting.length, config.head_width]
    size, shape = int(np.prod(x)), " × ".join(map(str, x))
    options = {"theta": config.rope_theta}
    return [
        Operation("rope", False, shape, [["x", x]], 0, 2 * size, options),
        Operation("rope", True, shape, [["dy", x]], 0, 2 * size, options),
    ]


def update(size: int) -> list[Operation]:
    """AdamW on as many numbers as a GPT-2 block has (12 C²), and the norm of their gradient; neither has a backward."""
    weight, grad = ["weight", [size]], ["grad", [size]]
    return [
        Operation("AdamW step", False, f"{size}", [weight, grad], 0, 7 * size),  # reads w g m v, writes w m v
        Operation("global_norm", False, f"{size}", [grad], 0, size),
    ]
