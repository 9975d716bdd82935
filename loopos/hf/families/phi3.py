"""Phi-3 (also Phi-4 and its mini): Llama with fused projections, and rotary positions on a part of each head."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.hf.known import HARMLESS
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary

from . import decoder

_MODULES = decoder.MODULES | {"attn.qkv_proj": ("self_attn.qkv_proj",), "mlp.gate_up_proj": ("mlp.gate_up_proj",)}
# The context of the first training is a setting of longrope, which is refused; auto_map names code beside the weights,
# from before transformers had this family, and is never run.
_HARMLESS = HARMLESS | {"attention_dropout", "auto_map", "embd_pdrop", "original_max_position_embeddings"}
_NEUTRAL = {
    key: values for key, values in decoder.ALIKE.items() if key not in ("attention_dropout", "partial_rotary_factor")
}


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.sizes(settings, norm_eps=1e-5)
    return (
        fields
        | rotary(settings, fields, partial=("partial_rotary_factor", 1.0), types=())
        | decoder.one_window(settings, fields["n_layer"])
        | {"dropout": settings.probability("resid_pdrop", 0.0)}
    )


def _write(c: ModelConfig) -> dict[str, Any]:
    return decoder.write(c) | {
        "partial_rotary_factor": c.rotary_width / c.head_width,
        "resid_pdrop": c.dropout,
        "embd_pdrop": c.dropout,
        "attention_dropout": c.dropout,
        "sliding_window": c.sliding_window or None,
        "original_max_position_embeddings": c.context_length,
    }


PHI3 = decoder.family(
    model_type="phi3",
    title="Phi-3",
    architecture="Phi3ForCausalLM",
    read=_read,
    write=_write,
    modules=_MODULES,
    harmless=_HARMLESS,
    neutral=_NEUTRAL,
)
