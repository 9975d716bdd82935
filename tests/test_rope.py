"""loopos/rope.py: frequencies of each kind of layer, what a scaling reads, transformers' numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopos.config import ModelConfig
from loopos.rope import RopeScaling, frequencies

SIZE = dict(vocab_size=8, context_length=128, n_layer=2, n_head=2, d_model=64, position="rope")
SCALINGS = {
    "linear": dict(rope_type="linear", factor=4.0),
    "dynamic": dict(rope_type="dynamic", factor=4.0),
    "llama3": dict(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=64,
    ),
    "llama3, of its own context": dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0),
    "yarn": dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32),
    "yarn, a factor from the contexts": dict(rope_type="yarn", factor=None, original_max_position_embeddings=32),
    "yarn, all it reads": dict(
        rope_type="yarn",
        factor=4.0,
        original_max_position_embeddings=512,
        beta_fast=16.0,
        beta_slow=2.0,
        attention_factor=1.25,
        truncate=False,
    ),
    "yarn, mscale": dict(
        rope_type="yarn", factor=40.0, original_max_position_embeddings=64, mscale=1.0, mscale_all_dim=0.5
    ),
    "yarn, a short ramp": dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=4),
}


def config(**changes):
    return ModelConfig(**SIZE | changes)


def test_plain_frequencies_are_powers_of_the_base():
    rotation = frequencies(config(rope_theta=500.0))["full"]
    assert rotation.factor == 1.0
    assert rotation.frequencies == tuple(math.pow(500.0, -2.0 * i / 32) for i in range(16))
    part = frequencies(config(rotary_dim=8))["full"].frequencies
    assert part == tuple(math.pow(10000.0, -2.0 * i / 8) for i in range(4))


def test_sliding_layers_may_have_a_base_of_their_own_and_are_then_not_scaled():
    scaling = RopeScaling(rope_type="linear", factor=8.0)
    mixed = dict(rope_scaling=scaling, sliding_window=4, layer_types=("sliding", "full"), rope_theta=1e6)
    plain = frequencies(config(rope_theta=1e6))["full"]
    found = frequencies(config(**mixed, local_rope_theta=1e4))
    assert found["sliding"] == frequencies(config())["full"]
    np.testing.assert_allclose(found["full"].frequencies, np.array(plain.frequencies) / 8, rtol=1e-15)
    alike = frequencies(config(**mixed))
    assert alike["sliding"] == alike["full"]


def test_no_context_here_is_long_enough_for_dynamic_to_change_anything():
    assert frequencies(config(rope_scaling=RopeScaling(**SCALINGS["dynamic"]))) == frequencies(config())


@pytest.mark.parametrize("name", SCALINGS)
def test_a_dict_and_back(name):
    made = RopeScaling(**SCALINGS[name])
    assert RopeScaling.from_dict(made.to_dict()) == made
    assert None not in made.to_dict().values()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"rope_type": "longrope"}, ValueError, "rope_type must be one of 'linear', 'dynamic', 'llama3', 'yarn', got"),
        ({"rope_type": "linear"}, ValueError, "the type 'linear' needs factor"),
        ({"rope_type": "linear", "factor": 2.0, "mscale": 1.0}, ValueError, "'linear' does not read mscale"),
        (
            {"rope_type": "llama3", "beta_fast": 2},
            ValueError,
            "needs factor, .*high_freq_factor and does not read beta",
        ),
        ({"rope_type": "linear", "factor": 0.5}, ValueError, "factor must be a finite number at least 1, got 0.5"),
        ({"rope_type": "linear", "factor": "2"}, TypeError, "factor must be a finite number at least 1, got '2'"),
        ({"rope_type": "yarn", "original_max_position_embeddings": 2.0}, TypeError, "must be an integer"),
        ({"rope_type": "yarn", "truncate": 1}, TypeError, "truncate must be True or False"),
        (
            {"rope_type": "yarn", "beta_slow": 40.0},
            ValueError,
            "beta_fast must be greater than beta_slow, got 32 and 40",
        ),
        (
            {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0},
            ValueError,
            "high_freq_factor must be greater than low_freq_factor, got 4 and 4",
        ),
        ({"rope_type": "linear", "factor": 2.0, "type": "linear"}, ValueError, r"unknown \['type'\], missing \[\]"),
        ({"factor": 2.0}, ValueError, r"unknown \[\], missing \['rope_type'\]"),
        ([1], TypeError, "values must be a dict, got"),
    ],
)
def test_refusals(values, error, message):
    with pytest.raises(error, match=message):
        RopeScaling.from_dict(values)


@pytest.mark.reference
@pytest.mark.parametrize("part", [1.0, 0.5])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("name", SCALINGS)
def test_transformers_has_the_same_frequencies(name, theta, part):
    """Theirs are computed in float32."""
    transformers = pytest.importorskip("transformers", reason="the reference is absent")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    values = SCALINGS[name]
    theirs = transformers.LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        max_position_embeddings=128,
        rope_parameters={**values, "rope_theta": theta, "partial_rotary_factor": part},
    )
    want, factor = ROPE_INIT_FUNCTIONS[values["rope_type"]](theirs, None)
    scaled = config(rope_theta=theta, rotary_dim=int(32 * part), rope_scaling=RopeScaling(**values))
    ours = frequencies(scaled)["full"]
    np.testing.assert_allclose(ours.frequencies, want.numpy(), rtol=3e-6)
    assert ours.factor == pytest.approx(factor, rel=1e-14)
