"""Llama: rms norm, rotary positions (scaled in several ways), a gated feed-forward, grouped keys and values."""

from __future__ import annotations

from typing import Any

from loopos.choices import named_there
from loopos.config import ModelConfig
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json

from . import decoder

_ACTIVATIONS = named_there("silu", "swish", gated=True)


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.sizes(settings)
    decoder.all_full(settings, fields["n_layer"])
    return (
        fields
        | rotary(settings, fields)
        | dict(
            activation=settings.choice("hidden_act", "silu", _ACTIVATIONS),
            attention_bias=decoder.biased(settings),
            mlp_bias=settings.flag("mlp_bias", False),
        )
    )


def _write(c: ModelConfig) -> dict[str, Any]:
    return (
        decoder.sizes_json(c)
        | rotary_json(c)
        | {
            "hidden_act": LLAMA.activation(c),
            "attention_bias": c.attention_bias == "all",
            "mlp_bias": c.mlp_bias,
        }
    )


LLAMA = decoder.family(
    model_type="llama",
    title="Llama",
    architecture="LlamaForCausalLM",
    activations=_ACTIVATIONS,
    read=_read,
    write=_write,
)
