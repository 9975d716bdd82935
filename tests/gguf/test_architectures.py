"""loopos/gguf/architectures.py: configurations to metadata and back, and what keeps one from being an architecture."""

import dataclasses
import math

import numpy as np
import pytest

import loopos
from loopos.gguf.architectures import ARCHITECTURES, architecture_of, config_of, metadata_of, rope_factors
from loopos.gguf.container import Block, Container, Stored
from loopos.gguf.tensors import slots
from loopos.gguf.values import Metadata
from loopos.rope import RopeScaling

SHAPE = {"vocab_size": 300, "context_length": 64, "n_layer": 7, "n_head": 4, "d_model": 64, "n_kv_head": 2, "d_ff": 96}
COMMON = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False, "tie_embeddings": False}
GEMMA = {
    "activation": "geglu_tanh",
    "qk_norm": "head",
    "norm_placement": "both",
    "norm_unit_offset": True,
    "embedding_scale": 8.0,
    "sliding_window": 16,
    "layer_types": ("sliding",) * 5 + ("full", "sliding"),
    "local_rope_theta": 10000.0,
    "tie_embeddings": True,
}
# By its 62 layers a file is known as this one, in which scores are divided by the root of d_model / n_head.
GEMMA_27B = GEMMA | {
    "n_layer": 62,
    "layer_types": ((("sliding",) * 5 + ("full",)) * 11)[:62],
    "head_dim": 32,
    "attention_scale": 0.25,
}
CONFIGS = {
    "llama": {},
    "llama tied, wide heads": {"tie_embeddings": True, "head_dim": 32, "rope_theta": 5e5, "norm_eps": 1e-6},
    "llama linear": {"rope_scaling": RopeScaling(rope_type="linear", factor=4.0)},
    "llama yarn": {"rope_scaling": RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)},
    "qwen2": {"attention_bias": "qkv"},
    "qwen3": {"qk_norm": "head", "head_dim": 32},
    "gemma3": GEMMA,
    "gemma3 of 27B": GEMMA_27B,
    "gemma3 linear": GEMMA | {"rope_scaling": RopeScaling(rope_type="linear", factor=8.0)},
}


@pytest.fixture
def container(tmp_path):
    """container(config): one without data whose metadata and tensors describe it."""

    def make(config, **changed):
        architecture = architecture_of(config)
        metadata = {f"{architecture.name}.{key}": value for key, value in metadata_of(config, architecture).items()}
        metadata |= {"general.architecture": architecture.name} | changed
        tensors = {
            part.name: Stored(part.name, (part.rows, *slot.shape[1:]), Block("F32", 1, 4), 0)
            for slot in slots(config, architecture)
            for part in slot.parts
        }
        return Container(tmp_path / "m.gguf", metadata, tensors)

    return make


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_comes_back(name, container):
    config = loopos.ModelConfig(**SHAPE | COMMON | CONFIGS[name])
    assert architecture_of(config).name == name.split()[0]
    assert config_of(Metadata(container(config))) == config


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "layernorm"}, "needs norm 'rmsnorm', not 'layernorm'"),
        ({"attention_bias": "all"}, "needs attention_bias 'none', not 'all'|needs attention_bias 'qkv', not 'all'"),
        ({"sliding_window": 8}, "needs sliding_window 0, not 8"),
        ({"parallel_residual": True}, "needs parallel_residual False"),
        ({"rotary_dim": 8}, "needs rotary_dim 0 or 16, not 8"),
        ({"rotary_dim": 8, "qk_norm": "head"}, "qwen3 needs rotary_dim 0 or 16, not 8"),
        (GEMMA | {"embedding_scale": 2.0}, "gemma3 needs embedding_scale 8, not 2"),
        (GEMMA | {"layer_types": ("full",) + ("sliding",) * 6}, "gemma3 needs each 6th of layer_types 'full'"),
        (GEMMA | {"local_rope_theta": 500.0}, "gemma3 needs local_rope_theta 10000, not 500"),
        (GEMMA | {"attention_scale": 0.5}, r"gemma3 needs attention_scale 0\.25, not 0\.5"),
        (GEMMA_27B | {"attention_scale": 0.0}, r"gemma3 needs attention_scale 0\.25, not 0\.176777"),
        (GEMMA_27B | {"attention_scale": 0.5}, r"gemma3 needs attention_scale 0\.25, not 0\.5"),
    ],
)
def test_what_no_architecture_computes_is_named(changed, message):
    with pytest.raises(ValueError, match=message):
        architecture_of(loopos.ModelConfig(**SHAPE | COMMON | changed))


def test_yarn_of_other_settings_is_not_written():
    scaling = RopeScaling(rope_type="yarn", factor=4.0, beta_fast=16.0)
    config = loopos.ModelConfig(**SHAPE | COMMON, rope_scaling=scaling)
    with pytest.raises(ValueError, match="yarn with beta_fast cannot be written"):
        metadata_of(config, ARCHITECTURES["llama"])


def test_llama3_is_a_tensor_of_factors(llama, tmp_path):
    scaling = RopeScaling(
        rope_type="llama3",
        factor=32.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    model = llama(rope_scaling=scaling, rope_theta=5e5)
    factors = rope_factors(model.config)
    assert factors.shape == (8,)
    assert factors[0] == 1
    assert math.isclose(factors[-1], 32, rel_tol=1e-6)
    loopos.gguf.write(model, tmp_path / "m.gguf", "f16")
    again = loopos.gguf.read(tmp_path / "m.gguf")
    assert again.config == model.config
    other = llama(rope_scaling=dataclasses.replace(scaling, factor=5.0), rope_theta=5e5)
    loopos.gguf.write(other, tmp_path / "m.gguf", "f16")
    with pytest.raises(ValueError, match=r"rope_freqs\.weight are of no rope scaling that LoopOS knows"):
        loopos.gguf.read(tmp_path / "m.gguf")
    assert np.isfinite(again.forward(np.zeros((1, 3), np.int64))).all()
