"""Llama: rms norm, rotary positions, a gated feed-forward, grouped keys and values."""

from __future__ import annotations

from typing import Any

from loopos.choices import named_there
from loopos.config import ModelConfig
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json
from loopos.hf.slots import Names

from . import decoder
from .family import Family

_NEUTRAL = decoder.UNTRAINED | {
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1, 1.0),
    "rope_interleaved": (False,),
}
_ACTIVATIONS = named_there("silu", "swish", gated=True)


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.sizes(settings) | rotary(settings)
    fields["activation"] = settings.choice("hidden_act", "silu", _ACTIVATIONS)
    head_dim = settings.size("head_dim", optional=True)
    if head_dim is not None and head_dim * fields["n_head"] != fields["d_model"]:
        sizes = f"num_attention_heads * head_dim must be hidden_size, got {fields['n_head']} * {head_dim}"
        raise settings.unsupported("head_dim", head_dim, f"{sizes} and {fields['d_model']}")
    layer_types = settings.take("layer_types") or []
    if layer_types != ["full_attention"] * len(layer_types):
        raise settings.unsupported("layer_types", layer_types, "every layer must be 'full_attention'")
    return fields


def _write(c: ModelConfig) -> dict[str, Any]:
    return (
        decoder.sizes_json(c)
        | rotary_json(c)
        | {
            "head_dim": c.head_width,
            "hidden_act": LLAMA.activation(c),
            "attention_bias": False,
            "mlp_bias": False,
        }
    )


LLAMA = Family(
    model_type="llama",
    title="Llama",
    architecture="LlamaForCausalLM",
    activations=_ACTIVATIONS,
    read=_read,
    write=_write,
    names=Names(decoder.BLOCK, decoder.MODULES),
    prefix=decoder.PREFIX,
    buffers=decoder.ROTARY,
    neutral=_NEUTRAL,
)
