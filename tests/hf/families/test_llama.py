"""Llama folders against transformers."""

from __future__ import annotations

from hf_against import SIZES, RotaryAgainst

CASES = {
    "plain": SIZES,
    "grouped, tied": SIZES | dict(num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-3),
    "one key head, theta": SIZES
    | dict(num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 50.0}),
}


class TestLlama(RotaryAgainst):
    config, model = "LlamaConfig", "LlamaForCausalLM"
