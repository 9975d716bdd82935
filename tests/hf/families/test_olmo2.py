"""OLMo 2 folders against transformers."""

from __future__ import annotations

import pytest
from hf_against import RotaryAgainst
from hf_sizes import SIZES

from loopos.hf.settings import config_from_json

CASES = {
    "plain": SIZES,
    "grouped, tied": SIZES | dict(num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-3),
    "biased, dynamic": SIZES
    | dict(attention_bias=True, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 50.0}),
}


class TestOlmo2(RotaryAgainst):
    config, model = "Olmo2Config", "Olmo2ForCausalLM"


def test_windows_are_refused():
    values = SIZES | {"model_type": "olmo2", "layer_types": ["sliding_attention", "full_attention"]}
    with pytest.raises(ValueError, match="layer_types"):
        config_from_json("config.json", values)
