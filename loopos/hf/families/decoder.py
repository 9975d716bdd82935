"""What Llama and the families after it share: the names of sizes and tensors, rms norm, rotary positions, a gate."""

from __future__ import annotations

import re
from typing import Any

from loopos.config import ModelConfig
from loopos.hf.known import NEUTRAL
from loopos.hf.reader import Settings

PREFIX = "model."
BLOCK = "model.layers.{}."
ROTARY = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")  # what older files hold of frequencies
MODULES = {
    "tok_embed": ("model.embed_tokens",),
    "attn_norm": ("input_layernorm",),
    "attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.o_proj": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
    "final_norm": ("model.norm",),
    "lm_head": ("lm_head",),
}
UNTRAINED = NEUTRAL | {"attention_dropout": (0, 0.0)}  # dropout on attention alone, which LoopOS does not have


def sizes(
    settings: Settings, *, n_kv_head: int | None = None, norm_eps: float = 1e-6, tied: bool = False
) -> dict[str, Any]:
    """The fields that all of them have; the keywords are the family's defaults (n_kv_head None: n_head)."""
    kv = settings.size("num_key_value_heads", optional=True)
    if kv is None and "num_key_value_heads" not in settings.values:
        kv = n_kv_head
    return dict(
        vocab_size=settings.size("vocab_size"),
        context_length=settings.size("max_position_embeddings"),
        n_layer=settings.size("num_hidden_layers"),
        n_head=settings.size("num_attention_heads"),
        d_model=settings.size("hidden_size"),
        n_kv_head=kv,
        d_ff=settings.size("intermediate_size"),
        norm="rmsnorm",
        position="rope",
        bias=False,
        tie_embeddings=settings.flag("tie_word_embeddings", tied),
        norm_eps=settings.positive("rms_norm_eps", norm_eps),
    )


def sizes_json(c: ModelConfig) -> dict[str, Any]:
    """The settings of :func:`sizes`."""
    return {
        "max_position_embeddings": c.context_length,
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": c.tie_embeddings,
        "attention_dropout": 0.0,
    }
