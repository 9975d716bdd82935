"""What Llama and the families after it share: the names of sizes and tensors, rms norm, rotary positions, a gate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from loopos.checks import shown
from loopos.choices import named_there
from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.hf.known import NEUTRAL
from loopos.hf.reader import Settings
from loopos.hf.slots import Names

from .family import Family

PREFIX = "model."
BLOCK = "model.layers.{}."
ROTARY = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")  # what older files hold of frequencies
MODULES = {
    "tok_embed": ("model.embed_tokens",),
    "attn_norm": ("input_layernorm",),
    "attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.q_norm": ("self_attn.q_norm",),
    "attn.k_norm": ("self_attn.k_norm",),
    "attn.o_proj": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
    "final_norm": ("model.norm",),
    "lm_head": ("lm_head",),
}
FULL, SLIDING = "full_attention", "sliding_attention"
_TYPES = {FULL: "full", SLIDING: "sliding"}
ACTIVATIONS = named_there(gated=True)
# Dropout on attention alone is nothing that LoopOS has; the others are of families beside.
ALIKE = NEUTRAL | {
    "attention_bias": (False,),
    "attention_dropout": (0, 0.0),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1, 1.0),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
}


def family(*, modules: Mapping[str, tuple[str, ...]] = MODULES, **given: Any) -> Family:
    """A family like these but for what is given: fields of :class:`Family`, and the names of its tensors."""
    alike = {"activations": ACTIVATIONS, "neutral": ALIKE, "prefix": PREFIX, "buffers": ROTARY}
    return Family(names=Names(BLOCK, modules), **alike | given)


def sizes(
    settings: Settings,
    *,
    n_kv_head: int | None = None,
    norm_eps: float = 1e-6,
    tied: bool = False,
    head_dim: int = 0,
) -> dict[str, Any]:
    """The fields that all of them have. The keywords are the family's defaults (n_kv_head None: n_head); head_dim 0:
    hidden_size / num_attention_heads, also where it is null."""
    kv = settings.size("num_key_value_heads", optional=True)
    if kv is None and "num_key_value_heads" not in settings.values:
        kv = n_kv_head
    width = settings.size("head_dim", optional=not (head_dim and "head_dim" in settings.values)) or head_dim
    d_model, n_head = settings.size("hidden_size"), settings.size("num_attention_heads")
    return dict(
        vocab_size=settings.size("vocab_size"),
        context_length=settings.size("max_position_embeddings"),
        n_layer=settings.size("num_hidden_layers"),
        n_head=n_head,
        d_model=d_model,
        n_kv_head=kv,
        d_ff=settings.size("intermediate_size"),
        head_dim=0 if width * n_head == d_model else width,
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
        "head_dim": c.head_width,
        "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": c.tie_embeddings,
        "attention_dropout": 0.0,
    }


def biased(settings: Settings, default: bool = False) -> str:
    """attention_bias, which is on all four projections."""
    return "all" if settings.flag("attention_bias", default) else "none"


def layer_types(settings: Settings, n_layer: int) -> tuple[str, ...]:
    """Of each layer "full" or "sliding", as layer_types says; () where it is absent or null."""
    values = settings.take("layer_types")
    if values is None or values == []:
        return ()
    if type(values) is not list:
        raise CheckpointError(settings.path, f"layer_types must be a list of strings, got {shown(values)}")
    if any(type(value) is not str or value not in _TYPES for value in values):
        raise settings.unsupported("layer_types", values, f"every layer must be {FULL!r} or {SLIDING!r}")
    if len(values) != n_layer:
        what = f"layer_types has {len(values)} entries, and num_hidden_layers is {n_layer}"
        raise CheckpointError(settings.path, what)
    return tuple(_TYPES[value] for value in values)


def sliding(settings: Settings, window: int | None, types: tuple[str, ...]) -> dict[str, Any]:
    """sliding_window and layer_types of a model whose layers are ``types``; window None: there is none."""
    if "sliding" not in types:
        return {}
    if window is None:
        what = "layers of 'sliding_attention' need a sliding_window"
        raise settings.unsupported("layer_types", [SLIDING], what)
    return {"sliding_window": window} | ({"layer_types": types} if "full" in types else {})


def layer_types_json(c: ModelConfig) -> list[str]:
    return [FULL if c.layer_type(layer) == "full" else SLIDING for layer in range(c.n_layer)]


def all_full(settings: Settings, n_layer: int) -> None:
    """Takes layer_types of a family that has full attention alone."""
    if "sliding" in layer_types(settings, n_layer):
        raise settings.unsupported("layer_types", settings.values["layer_types"], f"every layer must be {FULL!r}")
