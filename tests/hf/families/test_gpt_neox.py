"""GPT-NeoX folders against transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hf_against import IDS, RotaryAgainst
from hf_sizes import SIZES
from safetensors.numpy import load_file, save_file

import loopos
from loopos.hf.settings import config_from_json

NEOX = SIZES | dict(hidden_size=32)
CASES = {
    "plain": NEOX,
    "one after another, half turned": NEOX
    | dict(
        use_parallel_residual=False,
        rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5, "rope_theta": 50.0},
        layer_norm_eps=1e-3,
    ),
    "tied, all turned": NEOX
    | dict(
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "partial_rotary_factor": 1.0},
        hidden_act="gelu_new",
    ),
    "fewer biases": NEOX | dict(attention_bias=False, hidden_act="relu"),
    "gelu_fast": NEOX | dict(hidden_act="gelu_fast", num_attention_heads=2),
}


class TestGPTNeoX(RotaryAgainst):
    config, model = "GPTNeoXConfig", "GPTNeoXForCausalLM"

    def older(self, settings):
        older = dict(settings)
        rope = older.pop("rope_parameters")
        older |= {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope["partial_rotary_factor"]}
        return older | {"rope_scaling": None, "rope_theta": rope["rope_theta"]}


@pytest.mark.reference
def test_the_buffers_and_names_of_other_files(tmp_path):
    theirs = TestGPTNeoX().theirs(NEOX)
    theirs.save_pretrained(tmp_path)
    expected = loopos.Model.from_pretrained(tmp_path).forward(IDS)
    tensors = load_file(tmp_path / "model.safetensors")
    block = "gpt_neox.layers.0.attention."
    tensors["lm_head.weight"] = tensors.pop("embed_out.weight")
    tensors |= {
        f"{block}bias": np.ones((1, 1, 12, 12), bool),
        f"{block}masked_bias": np.array(-1e9, np.float32),
        f"{block}rotary_emb.inv_freq": np.ones(1, np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loopos.Model.from_pretrained(tmp_path).forward(IDS), expected)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"rotary_pct": 0.1}, "partial_rotary_factor"),
        ({"rotary_pct": 0}, "rotary_pct"),
        ({"rotary_emb_base": 50, "rope_theta": 60}, "rope_theta"),
        ({"hidden_act": "quick_gelu"}, "hidden_act"),
        ({"use_parallel_residual": None}, "use_parallel_residual"),
    ],
)
def test_what_is_refused_is_named(changes, key):
    with pytest.raises(ValueError, match=key):
        config_from_json("config.json", json.loads(json.dumps(NEOX)) | {"model_type": "gpt_neox"} | changes)


def test_dropout_is_that_of_hidden_states():
    values = NEOX | {"model_type": "gpt_neox", "hidden_dropout": 0.25, "attention_dropout": 0.1}
    assert config_from_json("config.json", values).dropout == 0.25
