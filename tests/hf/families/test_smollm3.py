"""SmolLM3 folders against transformers."""

from __future__ import annotations

import pytest
from hf_against import RotaryAgainst
from hf_sizes import SIZES

from loopos.hf.settings import config_from_json

SMOLLM3 = SIZES | dict(num_key_value_heads=2)
CASES = {
    "every third layer without rope": SMOLLM3 | dict(num_hidden_layers=3, no_rope_layer_interval=3),
    "by list": SMOLLM3 | dict(no_rope_layers=[0, 1], tie_word_embeddings=False),
    "windows where there is no rope": SMOLLM3
    | dict(no_rope_layers=[0, 1], use_sliding_window=True, sliding_window=4, num_key_value_heads=4),
    "biased": SMOLLM3 | dict(attention_bias=True, mlp_bias=True),
    "linear": SMOLLM3 | dict(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0}),
}


class TestSmolLM3(RotaryAgainst):
    config, model = "SmolLM3Config", "SmolLM3ForCausalLM"


@pytest.mark.parametrize("value", [[1], [1, 2], [1, True], "11", [1, None]])
def test_a_list_that_is_none(value):
    with pytest.raises(ValueError, match="no_rope_layers"):
        config_from_json("config.json", SMOLLM3 | {"model_type": "smollm3", "no_rope_layers": value})
