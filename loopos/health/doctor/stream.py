"""The residual stream of a model between its blocks, which the core keeps to itself.

It is recomputed from the parameters with ``loopos.ops``, in the order of ``cpp/models/gpt.cpp``. The logits that
come out at the end are those of the core but for rounding, which the doctor checks: two ways to one result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from loopos import ops
from loopos.choices import ACTIVATIONS
from loopos.rope import Rotation, frequencies


def stream(
    config: Any, weights: Mapping[str, np.ndarray], ids: np.ndarray, modulation: Mapping[str, Any] | None = None
) -> tuple[list[np.ndarray], np.ndarray]:
    """([stream before the first block, after each one], logits): n_layer + 1 arrays (B, T, C), and (B, T, V).

    config: a ModelConfig; weights: by the names of loopos.Model; ids (B, T). modulation: gate and additive_scale of a
    modulated adapter, whose matrices are among the weights."""
    x = ops.embedding(ids, weights["tok_embed.weight"])
    if config.embedding_scale != 1:
        x = x * x.dtype.type(config.embedding_scale)
    if config.position == "learned":
        x = x + weights["pos_embed.weight"][: ids.shape[1]]
    found = [x]
    for layer in range(config.n_layer):
        own = {name.split(".", 2)[2]: weights[name] for name in weights if name.startswith(f"blocks.{layer}.")}
        added = _branch(config, own, "attn", x, partial(_attention, config, layer))
        middle = x + added
        into = x if config.parallel_residual else middle
        feed_forward = partial(_feed_forward, config)
        if modulation is not None:
            feed_forward = partial(_modulated, feed_forward, added, modulation)
        x = middle + _branch(config, own, "mlp", into, feed_forward)
        found.append(x)
    tied = "tok_embed.weight" if config.tie_embeddings else "lm_head.weight"
    head = weights["score.weight" if config.labels else tied]
    return found, ops.linear(_norm(config, weights, "final_norm", x), head)


def _branch(
    config: Any, weights: Mapping[str, np.ndarray], name: str, x: np.ndarray, inner: Callable[..., np.ndarray]
) -> np.ndarray:
    if config.norm_placement != "post":
        x = _norm(config, weights, f"{name}_norm", x)
    y = inner(weights, x)
    return y if config.norm_placement == "pre" else _norm(config, weights, f"{name}_post_norm", y)


def _norm(config: Any, weights: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    if config.norm == "rmsnorm":
        return _rms_norm(config, weights[f"{name}.weight"], x)
    factors, bias = _factors(config, weights[f"{name}.weight"]), weights.get(f"{name}.bias")
    return ops.layer_norm(x, factors, bias, eps=config.norm_eps)[0]


def _rms_norm(config: Any, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    return ops.rms_norm(x, _factors(config, weight), eps=config.norm_eps)[0]


def _factors(config: Any, weight: np.ndarray) -> np.ndarray:
    return 1 + weight if config.norm_unit_offset else weight


def _linear(weights: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return ops.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _attention(config: Any, layer: int, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    batch, time, _ = x.shape
    qkv = _linear(weights, "attn.qkv_proj", x)
    width, kv = config.n_head * config.head_width, config.n_kv_head * config.head_width
    parts = np.split(qkv, [width, width + kv], axis=2)
    if config.qk_norm == "full":
        parts[:2] = (_rms_norm(config, weights[f"attn.{n}_norm.weight"], p) for n, p in zip("qk", parts, strict=False))
    q, k, v = (part.reshape(batch, time, -1, config.head_width).transpose(0, 2, 1, 3) for part in parts)
    if config.qk_norm == "head":
        q, k = (_rms_norm(config, weights[f"attn.{n}_norm.weight"], p) for n, p in (("q", q), ("k", k)))
    if config.has_rope(layer):
        rotation = frequencies(config)[config.layer_type(layer)]
        q, k = (_turned(part, rotation) for part in (q, k))
    window = config.sliding_window if config.layer_type(layer) == "sliding" else None
    y, _ = ops.attention(q, k, v, causal=True, window=window, scale=config.attention_scale or None)
    return _linear(weights, "attn.o_proj", y.transpose(0, 2, 1, 3).reshape(batch, time, width))


def _turned(x: np.ndarray, rotation: Rotation) -> np.ndarray:
    """Rotary positions of x (B, H, T, D), of the first elements of each head; in numpy, as ops.rope has the plain
    frequencies alone."""
    half = len(rotation.frequencies)
    angle = np.arange(x.shape[2])[:, None] * np.array(rotation.frequencies)
    cosine, sine = ((rotation.factor * f(angle)).astype(x.dtype) for f in (np.cos, np.sin))
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return np.concatenate([a * cosine - b * sine, b * cosine + a * sine, rest], axis=-1)


def _modulated(
    inner: Callable[..., np.ndarray],
    added: np.ndarray,
    modulation: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    x: np.ndarray,
) -> np.ndarray:
    """``inner`` of x behind the modulation by what attention has added (cpp/layers/modulation.h)."""
    u = ops.linear(added, weights["modulate.A_proj"])
    z = ops.linear(u, weights["modulate.B_mult"]) if "modulate.B_mult" in weights else None
    return inner(weights, ops.modulate(x, z, ops.linear(u, weights["modulate.B_add"]), **modulation))


def _feed_forward(config: Any, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    f = ACTIVATIONS[config.activation].f
    if config.gated:
        gate, up = np.split(_linear(weights, "mlp.gate_up_proj", x), 2, axis=-1)
        return _linear(weights, "mlp.down_proj", ops.gated(gate, up, f))
    return _linear(weights, "mlp.down_proj", ops.activation(_linear(weights, "mlp.up_proj", x), f))
