"""Phi-3 folders against transformers."""

from __future__ import annotations

import pytest
from hf_against import RotaryAgainst
from hf_sizes import SIZES

from loopos.hf.settings import config_from_json

CASES = {
    "plain": SIZES,
    "grouped, half turned": SIZES
    | dict(num_key_value_heads=2, rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}),
    "window, tied": SIZES | dict(sliding_window=4, tie_word_embeddings=True, num_key_value_heads=1),
    "gelu": SIZES | dict(hidden_act="gelu_new", rms_norm_eps=1e-3),
}


class TestPhi3(RotaryAgainst):
    config, model = "Phi3Config", "Phi3ForCausalLM"

    def older(self, settings):
        older = super().older(settings)
        return older | {"partial_rotary_factor": settings["rope_parameters"]["partial_rotary_factor"]}


@pytest.mark.parametrize("kind", ["longrope", "su", "yarn", "linear"])
@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_other_frequencies_are_refused_by_name(kind, key):
    rope = {"type": kind, "short_factor": [1.0, 1.0], "long_factor": [2.0, 2.0], "rope_theta": 10000.0}
    with pytest.raises(ValueError, match=f"{key}.type = '{kind}' is not supported"):
        config_from_json("config.json", SIZES | {"model_type": "phi3", key: rope})


def test_dropout_is_that_of_branches():
    values = SIZES | {"model_type": "phi3", "resid_pdrop": 0.25, "attention_dropout": 0.1, "embd_pdrop": 0.3}
    assert config_from_json("config.json", values).dropout == 0.25
