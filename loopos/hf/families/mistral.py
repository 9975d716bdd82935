"""Mistral: Llama with a window in which all layers attend."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json

from . import decoder


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.sizes(settings, n_kv_head=8)
    window = 4096 if "sliding_window" not in settings.values else settings.size("sliding_window", optional=True)
    kind = "full" if window is None else "sliding"
    types = decoder.layer_types(settings, fields["n_layer"])
    if set(types) - {kind}:  # transformers has one mask for all layers of this family
        names = f"every layer must be {decoder.FULL if kind == 'full' else decoder.SLIDING!r}, as sliding_window says"
        raise settings.unsupported("layer_types", settings.values["layer_types"], names)
    return (
        fields
        | rotary(settings, fields)
        | dict(
            activation=settings.choice("hidden_act", "silu", decoder.ACTIVATIONS),
            sliding_window=window or 0,
        )
    )


def _write(c: ModelConfig) -> dict[str, Any]:
    return (
        decoder.sizes_json(c)
        | rotary_json(c)
        | {
            "hidden_act": MISTRAL.activation(c),
            "sliding_window": c.sliding_window or None,
        }
    )


MISTRAL = decoder.family(
    model_type="mistral",
    title="Mistral",
    architecture="MistralForCausalLM",
    read=_read,
    write=_write,
)
