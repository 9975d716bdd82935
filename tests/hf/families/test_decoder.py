"""What Llama and the families after it share."""

from __future__ import annotations

from loopos.config import ModelConfig
from loopos.hf.families import decoder
from loopos.hf.reader import Settings

LLAMA = dict(norm="rmsnorm", position="rope", bias=False, activation="swiglu")


def test_sizes_come_back():
    config = ModelConfig(11, 6, 2, 4, 8, n_kv_head=2, d_ff=12, norm_eps=1e-3, tie_embeddings=False, **LLAMA)
    values = decoder.sizes_json(config) | {"vocab_size": 11}
    settings = Settings("config.json", values)
    assert ModelConfig(**decoder.sizes(settings), activation="swiglu") == config
    assert set(values) - settings.taken == {"attention_dropout"}


def test_defaults_are_those_of_the_family():
    needed = ("vocab_size", "max_position_embeddings", "num_hidden_layers", "hidden_size", "intermediate_size")
    values = dict.fromkeys((*needed, "num_attention_heads"), 8)
    fields = decoder.sizes(Settings("config.json", values), n_kv_head=2, norm_eps=1e-3, tied=True)
    assert (fields["n_kv_head"], fields["norm_eps"], fields["tie_embeddings"]) == (2, 1e-3, True)
    nulls = Settings("config.json", values | {"num_key_value_heads": None})
    assert decoder.sizes(nulls, n_kv_head=2)["n_kv_head"] is None  # as many as heads
