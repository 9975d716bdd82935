"""What Llama and the families after it share: the names of sizes and tensors, rms norm, rotary positions, a gate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from loopos.checks import shown
from loopos.choices import named_there
from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.hf.known import NEUTRAL
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json
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
ATTENTION_BIAS, MLP_BIAS = "attention_bias", "mlp_bias"
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
    # A family with a width of its own needs one: null would be no width there.
    width = settings.size("head_dim", absent=head_dim) if head_dim else settings.size("head_dim", optional=True) or 0
    d_model, n_head = settings.size("hidden_size"), settings.size("num_attention_heads")
    return dict(
        vocab_size=settings.size("vocab_size"),
        context_length=settings.size("max_position_embeddings"),
        n_layer=settings.size("num_hidden_layers"),
        n_head=n_head,
        d_model=d_model,
        n_kv_head=settings.size("num_key_value_heads", optional=True, absent=n_kv_head),
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


def read(settings: Settings, biases: Iterable[str] = (), *, theta: float = 10000.0, **defaults: Any) -> dict[str, Any]:
    """:func:`sizes` and plain :func:`~loopos.hf.rotary.rotary` positions with their defaults, and ``biases``."""
    fields = sizes(settings, **defaults)
    return fields | rotary(settings, fields, theta=theta) | biased(settings, biases)


def write(c: ModelConfig, biases: Iterable[str] = ()) -> dict[str, Any]:
    """The settings of :func:`read`."""
    return sizes_json(c) | rotary_json(c) | biased_json(c, biases)


def biased(settings: Settings, names: Iterable[str], default: bool = False) -> dict[str, Any]:
    """ATTENTION_BIAS, which is on all four projections, and MLP_BIAS: those that a family has."""
    flags = {name: settings.flag(name, default) for name in names}
    attention = {name: "all" if flag else "none" for name, flag in flags.items() if name == ATTENTION_BIAS}
    return flags | attention


def biased_json(c: ModelConfig, names: Iterable[str]) -> dict[str, Any]:
    """The settings of :func:`biased`."""
    flags = {ATTENTION_BIAS: c.attention_bias == "all", MLP_BIAS: c.mlp_bias}
    return {name: flags[name] for name in names}


def one_window(settings: Settings, n_layer: int, absent: int | None = None) -> dict[str, Any]:
    """sliding_window of a family with one mask for all layers. absent: the window where nothing is said."""
    window = settings.size("sliding_window", optional=True, absent=absent)
    kind = "full" if window is None else "sliding"
    if set(layer_types(settings, n_layer)) - {kind}:
        names = f"every layer must be {FULL if kind == 'full' else SLIDING!r}, as sliding_window says"
        raise settings.unsupported("layer_types", settings.values["layer_types"], names)
    return {"sliding_window": window or 0}


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
