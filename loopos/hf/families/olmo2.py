"""OLMo 2: norms after each branch in place of before, and on all heads of queries and keys together."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json

from . import decoder

_MODULES = {name: files for name, files in decoder.MODULES.items() if name not in ("attn_norm", "mlp_norm")} | {
    "attn_post_norm": ("post_attention_layernorm",),
    "mlp_post_norm": ("post_feedforward_layernorm",),
}


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.sizes(settings, norm_eps=1e-5)
    decoder.all_full(settings, fields["n_layer"])
    return (
        fields
        | rotary(settings, fields)
        | dict(
            activation=settings.choice("hidden_act", "silu", decoder.ACTIVATIONS),
            attention_bias=decoder.biased(settings),
            qk_norm="full",
            norm_placement="post",
        )
    )


def _write(c: ModelConfig) -> dict[str, Any]:
    return (
        decoder.sizes_json(c)
        | rotary_json(c)
        | {
            "hidden_act": OLMO2.activation(c),
            "attention_bias": c.attention_bias == "all",
        }
    )


OLMO2 = decoder.family(
    model_type="olmo2",
    title="OLMo 2",
    architecture="Olmo2ForCausalLM",
    read=_read,
    write=_write,
    modules=_MODULES,
)
