"""Folders of Gemma 3's text model against transformers."""

from __future__ import annotations

import pytest
from hf_against import RotaryAgainst
from hf_sizes import SIZES

from loopos.hf.settings import config_from_json

GEMMA3 = SIZES | dict(num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=11, sliding_window=4)
BOTH = ["sliding_attention", "full_attention"]
CASES = {
    "local and global": GEMMA3 | dict(layer_types=BOTH),
    "pattern": GEMMA3 | dict(num_hidden_layers=3, sliding_window_pattern=3, attention_bias=True),
    "bases": GEMMA3
    | dict(
        layer_types=BOTH,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 300.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
        },
    ),
    "all local": GEMMA3 | dict(layer_types=["sliding_attention"] * 2, tie_word_embeddings=False),
    "all global, silu": GEMMA3 | dict(layer_types=["full_attention"] * 2, hidden_activation="silu"),
    "a wide window": GEMMA3 | dict(layer_types=BOTH, sliding_window=512, query_pre_attn_scalar=8),
}


class TestGemma3(RotaryAgainst):
    config, model = "Gemma3TextConfig", "Gemma3ForCausalLM"

    def older(self, settings):
        older = dict(settings)
        rope = older.pop("rope_parameters")
        full = dict(rope["full_attention"])
        older |= {"rope_theta": full.pop("rope_theta"), "rope_local_base_freq": rope["sliding_attention"]["rope_theta"]}
        older["rope_scaling"] = None if full["rope_type"] == "default" else full
        return older


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ({"sliding_window": None}, "sliding_window"),
        ({"rope_parameters": {"rope_type": "default"}}, r"rope_parameters\.rope_type"),
        ({"rope_parameters": {"full_attention": 3}}, r"rope_parameters\.full_attention"),
        (
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "sliding_attention.rope_type",
        ),
        ({"hidden_activation": "relu"}, "hidden_activation"),
        ({"head_dim": None}, "head_dim"),
        ({"attention_dropout": 0.1}, "attention_dropout"),
    ],
)
def test_what_is_refused_is_named(changes, key):
    with pytest.raises(ValueError, match=key):
        config_from_json("config.json", GEMMA3 | {"model_type": "gemma3_text"} | changes)
