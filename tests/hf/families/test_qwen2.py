"""Qwen2 folders against transformers."""

from __future__ import annotations

import pytest
from hf_against import RotaryAgainst
from hf_sizes import SIZES

from loopos.hf.settings import config_from_json

QWEN2 = SIZES | dict(num_key_value_heads=2)
CASES = {
    "plain": QWEN2,
    "tied, theta": QWEN2 | dict(tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
    "windows from the second layer on": QWEN2
    | dict(use_sliding_window=True, sliding_window=4, max_window_layers=1, num_hidden_layers=3),
    "windows by list": QWEN2
    | dict(use_sliding_window=True, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
    "all windows": QWEN2 | dict(use_sliding_window=True, sliding_window=3, max_window_layers=0),
    "unused window": QWEN2 | dict(use_sliding_window=False, sliding_window=3, max_window_layers=0),
}


class TestQwen2(RotaryAgainst):
    config, model = "Qwen2Config", "Qwen2ForCausalLM"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"layer_types": ["sliding_attention"] * 2}, "layer_types"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"layer_types": ["linear_attention"] * 2}, "layer_types"),
        ({"layer_types": "full_attention"}, "layer_types"),
        ({"max_window_layers": -1}, "max_window_layers"),
        ({"use_sliding_window": 1}, "use_sliding_window"),
        ({"sliding_window": 0}, "sliding_window"),
        ({"attention_bias": True}, "attention_bias"),
    ],
)
def test_what_is_refused_is_named(changes, key):
    with pytest.raises(ValueError, match=key):
        config_from_json("config.json", QWEN2 | {"model_type": "qwen2"} | changes)
