"""Mistral folders against transformers."""

from __future__ import annotations

import pytest
from hf_against import RotaryAgainst
from hf_sizes import SIZES

from loopos.hf.settings import config_from_json

CASES = {
    "window": SIZES | dict(num_key_value_heads=2, sliding_window=5),
    "no window": SIZES | dict(num_key_value_heads=1, sliding_window=None, tie_word_embeddings=True),
    "wide heads, gelu": SIZES | dict(num_key_value_heads=4, head_dim=6, hidden_act="gelu", sliding_window=4096),
    "yarn": SIZES
    | dict(
        num_key_value_heads=2,
        sliding_window=None,
        rope_parameters={"rope_type": "yarn", "rope_theta": 90.0, "factor": 4.0, "original_max_position_embeddings": 6},
    ),
}


class TestMistral(RotaryAgainst):
    config, model = "MistralConfig", "MistralForCausalLM"


def test_layers_of_other_kinds_are_refused():
    values = SIZES | {"model_type": "mistral", "num_key_value_heads": 2}
    for window, types in ((None, "sliding_attention"), (5, "full_attention"), (5, "chunked_attention")):
        with pytest.raises(ValueError, match="layer_types"):
            config_from_json("config.json", values | {"sliding_window": window, "layer_types": [types] * 2})
    with pytest.raises(ValueError, match="attention_bias"):
        config_from_json("config.json", values | {"attention_bias": True})
