"""Every choice of a ModelConfig that changes what is computed, for models of two layers and four heads of four."""

from __future__ import annotations

from loopos.choices import ACTIVATIONS
from loopos.rope import RopeScaling

ROPE = {"position": "rope", "n_kv_head": 2}
YARN = RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=6)
MIXED = {"layer_types": ("sliding", "full"), "sliding_window": 3}

VARIANTS: dict[str, dict] = {
    "gpt2": {},
    "no bias": {"bias": False},
    "untied": {"tie_embeddings": False},
    **{name: {"activation": name, "d_ff": 20} for name in ACTIVATIONS},
    "rms norm": {"norm": "rmsnorm"},
    "rope, one key head": {"position": "rope", "n_kv_head": 1},
    "llama": {
        **ROPE,
        "norm": "rmsnorm",
        "activation": "swiglu",
        "bias": False,
        "tie_embeddings": False,
    },
    "half of a head turns": {**ROPE, "rotary_dim": 2},
    "scaled rope": {**ROPE, "rope_scaling": YARN},
    "two kinds of layers": {**ROPE, **MIXED, "local_rope_theta": 100.0, "rope_scaling": YARN},
    "a layer without rope": {**ROPE, "rope_layers": (True, False)},
}
