"""Qwen3: a norm on each head of queries and keys, heads of their own width, windows as in Qwen2."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json

from . import decoder
from .qwen2 import windows, windows_json


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.sizes(settings, n_kv_head=32, head_dim=128)
    return (
        fields
        | rotary(settings, fields)
        | windows(settings, fields["n_layer"])
        | dict(
            activation=settings.choice("hidden_act", "silu", decoder.ACTIVATIONS),
            attention_bias=decoder.biased(settings),
            qk_norm="head",
        )
    )


def _write(c: ModelConfig) -> dict[str, Any]:
    return (
        decoder.sizes_json(c)
        | rotary_json(c)
        | windows_json(c)
        | {
            "hidden_act": QWEN3.activation(c),
            "attention_bias": c.attention_bias == "all",
        }
    )


QWEN3 = decoder.family(
    model_type="qwen3",
    title="Qwen3",
    architecture="Qwen3ForCausalLM",
    read=_read,
    write=_write,
)
