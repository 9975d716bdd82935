"""Qwen3 folders against transformers."""

from __future__ import annotations

import pytest
from hf_against import RotaryAgainst
from hf_sizes import SIZES

from loopos.hf.settings import config_from_json

QWEN3 = SIZES | dict(num_key_value_heads=2, head_dim=6)
CASES = {
    "plain": QWEN3,
    "biased, tied": QWEN3 | dict(attention_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-3),
    "windows": QWEN3 | dict(use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "yarn": QWEN3
    | dict(
        head_dim=8,
        rope_parameters={"rope_type": "yarn", "rope_theta": 90.0, "factor": 2.0, "original_max_position_embeddings": 6},
    ),
}


class TestQwen3(RotaryAgainst):
    config, model = "Qwen3Config", "Qwen3ForCausalLM"


def test_the_head_width_has_a_default():
    values = {key: value for key, value in QWEN3.items() if key != "head_dim"} | {"model_type": "qwen3"}
    assert config_from_json("config.json", values).head_dim == 128
    with pytest.raises(ValueError, match="head_dim"):
        config_from_json("config.json", values | {"head_dim": None})
