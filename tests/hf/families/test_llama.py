"""Llama folders against transformers."""

from __future__ import annotations

from hf_against import RotaryAgainst
from hf_sizes import SIZES


def _rope(kind: str, **settings) -> dict:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 90.0, **settings}}


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=6)
WIDE = SIZES | dict(hidden_size=32, num_attention_heads=2)  # eight pairs of a head
CASES = {
    "plain": SIZES,
    "grouped, tied": SIZES | dict(num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-3),
    "one key head, theta": SIZES | dict(num_key_value_heads=1) | _rope("default"),
    "biases": SIZES | dict(attention_bias=True, mlp_bias=True),
    "wide heads": SIZES | dict(head_dim=10, num_key_value_heads=2, mlp_bias=True),
    "narrow heads": SIZES | dict(head_dim=2, attention_bias=True),
    "linear": WIDE | _rope("linear", factor=3.0),
    "dynamic": WIDE | _rope("dynamic", factor=3.0),
    "llama3": WIDE | _rope("llama3", **LLAMA3),
    "yarn": WIDE | _rope("yarn", factor=4.0, original_max_position_embeddings=8),
    "yarn, all settings": WIDE
    | _rope("yarn", factor=4.0, original_max_position_embeddings=8, beta_fast=3.0, beta_slow=0.5, truncate=False)
    | dict(num_key_value_heads=1),
    "yarn, factor of attention": WIDE | _rope("yarn", factor=2.0, attention_factor=1.3, beta_fast=8, beta_slow=2),
    "yarn, scales": WIDE | _rope("yarn", factor=2.0, mscale=0.7, mscale_all_dim=0.4),
}


class TestLlama(RotaryAgainst):
    config, model = "LlamaConfig", "LlamaForCausalLM"
