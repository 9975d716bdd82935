"""Every choice of a ModelConfig that changes what is computed, for models of two layers and four heads of four."""

from __future__ import annotations

from loopos.choices import ACTIVATIONS
from loopos.rope import RopeScaling

ROPE = {"position": "rope", "n_kv_head": 2}
LLAMA = {**ROPE, "norm": "rmsnorm", "activation": "swiglu", "bias": False, "tie_embeddings": False, "d_ff": 20}
YARN = RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=6)
MIXED = {"layer_types": ("sliding", "full"), "sliding_window": 3}

VARIANTS: dict[str, dict] = {
    "gpt2": {},
    "no bias": {"bias": False},
    "untied": {"tie_embeddings": False},
    **{name: {"activation": name, "d_ff": 20} for name in ACTIVATIONS},
    "rms norm": {"norm": "rmsnorm"},
    "rope, one key head": {"position": "rope", "n_kv_head": 1},
    "llama": LLAMA,
    "half of a head turns": {**ROPE, "rotary_dim": 2},
    "scaled rope": {**ROPE, "rope_scaling": YARN},
    "two kinds of layers": {**ROPE, **MIXED, "local_rope_theta": 100.0, "rope_scaling": YARN},
    "a layer without rope": {**ROPE, "rope_layers": (True, False)},
    "bias on q, k, v alone": {**ROPE, "bias": False, "attention_bias": "qkv"},
    "bias on attention alone": {"mlp_bias": False},
    "bias on the feed-forward alone": {"bias": False, "attention_bias": "none", "mlp_bias": True},
    "norms of q and k": {**ROPE, "qk_norm": "head", "norm": "rmsnorm"},
    "norms of q and k, no rope": {"qk_norm": "head", "n_kv_head": 1},
    "norms over all heads": {**ROPE, "qk_norm": "full", "rotary_dim": 2},
    "scales": {"embedding_scale": 4.0, "attention_scale": 0.3},
    "unit offset": {"norm": "rmsnorm", "norm_unit_offset": True},
    "unit offset of layer norm": {"norm_unit_offset": True},
    "norms behind": {"norm_placement": "post"},
    "norms on both sides": {"norm_placement": "both"},
    "parallel": {"parallel_residual": True},
    "qwen3": {**LLAMA, "qk_norm": "head", "head_dim": 6},
    "olmo2": {**LLAMA, "qk_norm": "full", "norm_placement": "post"},
    "gemma3": {
        **LLAMA,
        **MIXED,
        "activation": "geglu_tanh",
        "tie_embeddings": True,
        "head_dim": 6,
        "n_kv_head": 1,
        "qk_norm": "head",
        "norm_placement": "both",
        "norm_unit_offset": True,
        "embedding_scale": 4.0,
        "attention_scale": 0.5,
        "local_rope_theta": 100.0,
        "rope_theta": 1e4,
    },
    "gpt_neox": {"position": "rope", "rotary_dim": 2, "parallel_residual": True, "activation": "gelu"},
}
