"""loopos/config.py: what ModelConfig accepts, refuses and counts."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopos.choices import ACTIVATIONS
from loopos.config import ModelConfig
from loopos.rope import RopeScaling

BASE = {"vocab_size": 65, "context_length": 64, "n_layer": 4, "n_head": 4, "d_model": 128}
SIZES = [*BASE, "n_kv_head", "d_ff"]


def config(**changes):
    return ModelConfig(**{**BASE, **changes})


def test_defaults_are_those_of_the_contract():
    assert ModelConfig(65, 64, 4, 4, 128).to_dict() == {
        **BASE,
        "n_kv_head": 4,
        "d_ff": 512,
        "norm": "layernorm",
        "activation": "gelu_tanh",
        "position": "learned",
        "bias": True,
        "tie_embeddings": True,
        "dropout": 0.0,
        "norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "head_dim": 0,
        "sliding_window": 0,
        "attention_bias": "all",
        "mlp_bias": True,
        "qk_norm": "none",
        "norm_placement": "pre",
        "norm_unit_offset": False,
        "parallel_residual": False,
        "embedding_scale": 1.0,
        "attention_scale": 0.0,
        "rotary_dim": 0,
        "rope_scaling": None,
        "layer_types": [],
        "local_rope_theta": 0.0,
        "rope_layers": [],
        "labels": [],
    }


def test_only_five_arguments_are_positional():
    with pytest.raises(TypeError, match="positional"):
        ModelConfig(65, 64, 4, 4, 128, 4)


def test_d_ff_is_four_d_model_for_swiglu_too():
    assert config(activation="swiglu").d_ff == 512
    assert config(d_ff=300).d_ff == 300


def test_it_is_frozen_hashable_and_survives_pickle():
    made = config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.d_model = 64
    assert {made: 1}[pickle.loads(pickle.dumps(made))] == 1
    assert made != config(bias=False)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [True, False, "4", 4.0, float("nan"), np.float32(4), [4], b"4", np.True_])
def test_sizes_refuse_other_types(name, value):
    with pytest.raises(TypeError, match=f"ModelConfig: {name} must be an integer of at least 1, got"):
        config(**{name: value})


@pytest.mark.parametrize("name", BASE)
def test_required_sizes_refuse_none(name):
    with pytest.raises(TypeError, match=f"ModelConfig: {name} must be an integer of at least 1, got None"):
        config(**{name: None})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -1, -(2**70)])
def test_sizes_are_at_least_one(name, value):
    with pytest.raises(ValueError, match=f"ModelConfig: {name} must be an integer of at least 1, got {value}"):
        config(**{name: value})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [2**63, 10**5000], ids=["2^63", "10^5000"])
def test_sizes_beyond_an_index_name_the_bytes(name, value):
    with pytest.raises(ValueError, match=rf"ModelConfig: {name} must be at most 9223372036854775807, got .* bytes"):
        config(**{name: value})


def test_a_default_d_ff_may_not_overflow_either():
    with pytest.raises(ValueError, match="ModelConfig: d_ff must be at most"):
        config(d_model=2**62)


def test_absurd_sizes_within_an_index_are_left_to_the_model():
    assert config(vocab_size=2**40, d_model=2**40).num_parameters() > 2**80


@pytest.mark.parametrize("name", ["bias", "tie_embeddings", "norm_unit_offset", "parallel_residual"])
@pytest.mark.parametrize("value", [0, 1, "True", None, 1.0])
def test_switches_are_bools(name, value):
    with pytest.raises(TypeError, match=f"ModelConfig: {name} must be True or False, got"):
        config(**{name: value})


@pytest.mark.parametrize("name", ["norm", "activation", "position", "attention_bias", "qk_norm", "norm_placement"])
def test_choices(name):
    with pytest.raises(ValueError, match=f"ModelConfig: {name} must be one of .*, got 'other'"):
        config(**{name: "other"})
    for value in (1, True, b"rope", *([None] if name != "attention_bias" else [])):
        with pytest.raises(TypeError, match=f"ModelConfig: {name} must be one of"):
            config(**{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dropout", [-0.1, 1.0, 1.5, 1]),
        ("norm_eps", [0.0, -1e-5, 0]),
        ("rope_theta", [0.0, -1.0]),
        ("embedding_scale", [0.0, -2.0]),
        ("attention_scale", [-0.1]),
        ("local_rope_theta", [-1.0]),
    ],
)
def test_real_fields(name, values):
    for value in [*values, float("nan"), float("inf"), -float("inf"), 10**400]:
        with pytest.raises(ValueError, match=f"ModelConfig: {name} must be a finite number"):
            config(**{name: value})
    for value in (True, "0.1", None, [0.1]):
        with pytest.raises(TypeError, match=f"ModelConfig: {name} must be a finite number"):
            config(**{name: value})


def test_heads_must_divide():
    with pytest.raises(ValueError, match="n_head must divide d_model, got n_head 3 and d_model 128"):
        config(n_head=3)
    for kv in (3, 8):
        with pytest.raises(ValueError, match=f"n_kv_head must divide n_head, got n_kv_head {kv} and n_head 4"):
            config(n_kv_head=kv)


def test_rope_needs_an_even_head_width():
    with pytest.raises(ValueError, match="even head width d_model / n_head, got 12 / 4 = 3"):
        config(d_model=12, position="rope")
    assert config(d_model=12).head_width == 3


def test_fields_are_plain_numbers_and_safe_for_json():
    made = config(
        vocab_size=np.int64(65), n_kv_head=np.uint8(2), dropout=np.float32(0.5), rope_theta=10000, bias=np.False_
    )
    for name, value in made.to_dict().items():
        assert type(value) in (int, float, bool, str) or value in (None, []), name
    assert ModelConfig.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_from_dict_lists_what_is_unknown_and_missing():
    values = {**BASE, "n_embd": 3, "n_ctx": 4}
    del values["n_layer"]
    with pytest.raises(ValueError, match=r"unknown \['n_ctx', 'n_embd'\], missing \['n_layer'\]"):
        ModelConfig.from_dict(values)
    with pytest.raises(TypeError, match="values must be a dict, got"):
        ModelConfig.from_dict([1, 2])
    with pytest.raises(TypeError, match="ModelConfig: d_ff must be an integer"):
        ModelConfig.from_dict({**BASE, "d_ff": "512"})


LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False, "tie_embeddings": False}


@pytest.mark.parametrize(
    ("made", "published"),
    [
        (ModelConfig(50257, 1024, 12, 12, 768), 124_439_808),  # GPT-2
        (ModelConfig(50257, 1024, 48, 25, 1600), 1_557_611_200),  # GPT-2 XL
        (ModelConfig(32000, 4096, 32, 32, 4096, d_ff=11008, **LLAMA), 6_738_415_616),  # Llama 2 7B
        (ModelConfig(32000, 8192, 32, 32, 4096, d_ff=14336, n_kv_head=8, **LLAMA), 7_241_732_096),  # Mistral 7B
    ],
    ids=["gpt2", "gpt2-xl", "llama2-7b", "mistral-7b"],
)
def test_num_parameters_of_published_models(made, published):
    assert made.num_parameters() == published


def shapes(c):
    """Every parameter of the contract's model, spelled out one by one."""
    d = c.head_width
    found = [(c.vocab_size, c.d_model)]
    if c.position == "learned":
        found.append((c.context_length, c.d_model))

    def norm():
        found.append((c.d_model,))
        if c.norm == "layernorm" and c.bias:
            found.append((c.d_model,))

    def linear(inputs, outputs, bias):
        found.append((outputs, inputs))
        if bias:
            found.append((outputs,))

    for _ in range(c.n_layer):
        if c.norm_placement != "post":
            norm()
            norm()
        if c.norm_placement != "pre":
            norm()
            norm()
        for heads in (c.n_head, c.n_kv_head, c.n_kv_head):
            linear(c.d_model, heads * d, c.attention_bias in ("all", "qkv"))
        for heads in (c.n_head, c.n_kv_head):
            if c.qk_norm != "none":
                found.append((d if c.qk_norm == "head" else heads * d,))
        linear(c.n_head * d, c.d_model, c.attention_bias == "all")
        linear(c.d_model, c.d_ff, c.mlp_bias)
        if ACTIVATIONS[c.activation].gated:
            linear(c.d_model, c.d_ff, c.mlp_bias)
        linear(c.d_ff, c.d_model, c.mlp_bias)
    norm()
    if not c.tie_embeddings:
        found.append((c.vocab_size, c.d_model))
    return found


@given(
    groups=st.integers(1, 3),
    kv=st.integers(1, 3),
    half=st.integers(1, 4),
    n_layer=st.integers(1, 3),
    options=st.fixed_dictionaries(
        {
            "d_ff": st.none() | st.integers(1, 50),
            "norm": st.sampled_from(["layernorm", "rmsnorm"]),
            "activation": st.sampled_from(list(ACTIVATIONS)),
            "position": st.sampled_from(["learned", "rope"]),
            "bias": st.booleans(),
            "tie_embeddings": st.booleans(),
            "head_dim": st.sampled_from([0, 2, 10]),
            "attention_bias": st.sampled_from([None, "all", "qkv", "none"]),
            "mlp_bias": st.sampled_from([None, True, False]),
            "qk_norm": st.sampled_from(["none", "head", "full"]),
            "norm_placement": st.sampled_from(["pre", "post", "both"]),
        }
    ),
)
def test_num_parameters_is_the_sum_over_the_shapes(groups, kv, half, n_layer, options):
    heads = groups * kv
    made = ModelConfig(7, 5, n_layer, heads, heads * 2 * half, n_kv_head=kv, **options)
    assert made.num_parameters() == sum(int(np.prod(shape)) for shape in shapes(made))
    assert ModelConfig.from_dict(made.to_dict()) == made


def test_the_head_width_is_a_number_of_its_own():
    size = dict(vocab_size=8, context_length=8, n_layer=2, n_head=3, d_model=16)
    config = ModelConfig(**size, head_dim=6, n_kv_head=1)
    assert config.head_width == 6
    assert dataclasses.replace(config, head_dim=0, d_model=18).head_width == 6
    with pytest.raises(ValueError, match="n_head must divide d_model"):
        ModelConfig(**size)
    with pytest.raises(ValueError, match="an even head_dim, got 5"):
        ModelConfig(**size, head_dim=5, position="rope")
    with pytest.raises(ValueError, match="sliding_window must be an integer of at least 0"):
        ModelConfig(**size, head_dim=6, sliding_window=-1)


def test_biases_that_are_not_given_follow_bias():
    for bias in (True, False):
        made = config(bias=bias)
        assert (made.attention_bias, made.mlp_bias) == ("all" if bias else "none", bias)
    made = config(bias=False, attention_bias="qkv", mlp_bias=True)
    assert (made.attention_bias, made.mlp_bias) == ("qkv", True)
    with pytest.raises(TypeError, match="ModelConfig: mlp_bias must be True or False, got 1"):
        config(mlp_bias=1)


ROPE = {"position": "rope", "n_layer": 4}
MIXED = ("sliding", "full", "sliding", "full")


def test_what_is_said_of_each_layer():
    made = config(**ROPE, sliding_window=4, layer_types=list(MIXED), rope_layers=[True, np.False_, True, True])
    assert (made.layer_types, made.rope_layers) == (MIXED, (True, False, True, True))
    assert [made.layer_type(i) for i in range(4)] == list(MIXED)
    assert [made.has_rope(i) for i in range(4)] == [True, False, True, True]
    assert {made: 1}[ModelConfig.from_dict(json.loads(json.dumps(made.to_dict())))] == 1
    assert config(**ROPE, sliding_window=4).layer_type(3) == "sliding"
    assert (config().layer_type(3), config().has_rope(3), config(**ROPE).has_rope(3)) == ("full", False, True)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layer_types": MIXED}, ValueError, "sliding layers, which need a sliding_window"),
        ({"layer_types": MIXED[:3], "sliding_window": 4}, ValueError, "one entry for each of the n_layer = 4 .* got 3"),
        ({"layer_types": "full", "sliding_window": 4}, TypeError, "layer_types must be a tuple, one entry a layer"),
        ({"layer_types": ("full", "near") * 2}, ValueError, r"layer_types\[1\] must be one of 'full', 'sliding', got"),
        ({"rope_layers": (True, 1, True, True)}, TypeError, r"rope_layers\[1\] must be True or False, got 1"),
        ({"position": "learned", "rope_layers": (True,) * 4}, ValueError, "rope_layers can only be given with"),
        ({"position": "learned", "rotary_dim": 2}, ValueError, "rotary_dim can only be given with position 'rope'"),
        ({"rotary_dim": 3}, ValueError, "rotary_dim must be even and at most the head width 32, got 3"),
        ({"rotary_dim": 34}, ValueError, "rotary_dim must be even and at most the head width 32, got 34"),
        ({"local_rope_theta": 100.0}, ValueError, "local_rope_theta is of sliding layers, and there are none"),
        ({"rope_scaling": {"rope_type": "linear"}}, TypeError, "rope_scaling must be a loopos.rope.RopeScaling or"),
        ({"rope_scaling": RopeScaling(rope_type="yarn"), "rope_theta": 1.0}, ValueError, "yarn needs a rope_theta"),
        ({"parallel_residual": True, "norm_placement": "both"}, ValueError, "norm_placement 'pre' alone, got 'both'"),
    ],
)
def test_what_does_not_go_together(change, error, message):
    with pytest.raises(error, match=message):
        config(**{**ROPE, **change})


def test_an_odd_head_may_turn_a_part_of_itself():
    assert config(d_model=12, position="rope", rotary_dim=2).rotary_width == 2


def test_scaling_survives_json():
    made = config(**ROPE, rope_scaling=RopeScaling(rope_type="linear", factor=4))
    assert made.to_dict()["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    assert ModelConfig.from_dict(json.loads(json.dumps(made.to_dict()))) == made
