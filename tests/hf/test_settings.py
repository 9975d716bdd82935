"""config.json: what is translated, what is refused, and that nothing is ignored."""

import json
import math
from dataclasses import replace

import pytest
from hf_reading import read_pretrained
from hf_sizes import SMALL
from hypothesis import given, settings
from hypothesis import strategies as st

from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.hf.families import FAMILIES
from loopos.hf.settings import config_from_json, family_of, to_json

GPT2 = ModelConfig(11, 6, 2, 2, 8, dropout=0.25)
LLAMA = ModelConfig(
    11,
    16,
    2,
    4,
    8,
    n_kv_head=2,
    d_ff=12,
    norm="rmsnorm",
    activation="swiglu",
    position="rope",
    bias=False,
    tie_embeddings=False,
    norm_eps=1e-6,
    rope_theta=5000.0,
)


def read(values):
    return config_from_json("config.json", values)


def test_both_families_translate(make_settings):
    assert read(make_settings("gpt2")) == GPT2
    assert read(make_settings("llama")) == LLAMA


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"activation_function": "gelu_pytorch_tanh"}, {}),
        ({"activation_function": "gelu"}, {"activation": "gelu"}),
        ({"activation_function": "relu"}, {"activation": "relu"}),
        ({"n_inner": 20}, {"d_ff": 20}),
        ({"layer_norm_epsilon": 1e-3}, {"norm_eps": 1e-3}),
        ({"resid_pdrop": 0}, {"dropout": 0.0}),
        ({"attn_pdrop": 0.7, "embd_pdrop": "not read"}, {}),
        ({"n_ctx": 6}, {}),
        ({"reorder_and_upcast_attn": True, "use_cache": False, "torch_dtype": "float16", "_name_or_path": "x"}, {}),
        ({"scale_attn_weights": True, "tie_word_embeddings": True, "pruned_heads": {}, "something_new": None}, {}),
    ],
)
def test_gpt2_settings(make_settings, changes, field):
    assert read(make_settings("gpt2", **changes)) == replace(GPT2, **field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tie_word_embeddings": True}, {"tie_embeddings": True}),
        ({"num_key_value_heads": None}, {"n_kv_head": 4}),
        ({"num_key_value_heads": 1}, {"n_kv_head": 1}),
        ({"head_dim": 2}, {}),
        ({"head_dim": None, "rope_scaling": None, "pretraining_tp": 2, "mlp_bias": False}, {}),
        ({"rope_parameters": None}, {"rope_theta": 10000.0}),
        ({"rope_parameters": None, "rope_theta": 250}, {"rope_theta": 250.0}),
        ({"rope_parameters": {"rope_type": "default"}, "rope_theta": 250}, {"rope_theta": 250.0}),
        ({"rope_theta": 250.0}, {}),
        ({"rope_parameters": None, "rope_scaling": {"type": "default", "rope_theta": 7.5}}, {"rope_theta": 7.5}),
        ({"rope_parameters": {"rope_theta": 5000.0, "partial_rotary_factor": 1.0}}, {}),
        ({"attention_dropout": 0.0, "attention_bias": False, "layer_types": ["full_attention"] * 2}, {}),
        ({"attention_bias": True}, {"attention_bias": "all"}),
        ({"mlp_bias": True}, {"mlp_bias": True}),
        ({"head_dim": 6}, {"head_dim": 6}),
    ],
)
def test_llama_settings(make_settings, changes, field):
    assert read(make_settings("llama", **changes)) == replace(LLAMA, **field)


@pytest.mark.parametrize(
    ("family", "key", "values"),
    [
        ("gpt2", "model_type", ["mixtral", "gpt_neo", "gemma3", ""]),
        ("gpt2", "activation_function", ["silu", "gelu_fast", "quick_gelu", "os.system"]),
        ("gpt2", "scale_attn_weights", [False, 0, 1, "true"]),
        ("gpt2", "scale_attn_by_inverse_layer_idx", [True, 1]),
        ("gpt2", "add_cross_attention", [True]),
        ("gpt2", "tie_word_embeddings", [False]),
        ("gpt2", "is_encoder_decoder", [True]),
        ("gpt2", "is_causal", [False]),
        ("gpt2", "n_ctx", [5, 7]),
        ("gpt2", "pruned_heads", [{"0": [1]}]),
        ("gpt2", "quantization_config", [{"bits": 4}]),
        ("gpt2", "per_layer_config", [{"0": {"n_inner": 3}}]),
        ("gpt2", "hidden_size", [8]),
        ("gpt2", "auto_map", [{"AutoModel": "evil.Model"}]),
        ("llama", "hidden_act", ["gelu", "relu", "gelu_new"]),
        ("llama", "attention_dropout", [0.1, "0"]),
        ("llama", "sliding_window", [4096, 0]),
        ("llama", "layer_types", [["full_attention", "sliding_attention"]]),
        ("llama", "partial_rotary_factor", [0.5]),
        ("llama", "quantization_config", [{"quant_method": "awq"}]),
        ("llama", "rope_interleaved", [True]),
        ("llama", "final_logit_softcapping", [30.0]),
        ("llama", "rope_scaling", [{"type": "linear", "factor": 2.0}, {"rope_type": "dynamic", "factor": 2.0}]),
    ],
)
def test_what_is_not_supported_is_named(make_settings, family, key, values):
    for value in values:
        with pytest.raises(ValueError, match=key) as caught:
            read(make_settings(family, **{key: value}))
        assert not isinstance(caught.value, CheckpointError)


@pytest.mark.parametrize("rope_type", ["longrope", "proportional", "su", "", None, 3])
def test_other_rotary_types_are_named(make_settings, rope_type):
    rope = {"rope_type": rope_type, "rope_theta": 5000.0, "factor": 8.0}
    with pytest.raises(ValueError, match="rope_type"):
        read(make_settings("llama", rope_parameters=rope))
    with pytest.raises(ValueError, match=r"rope_parameters\.factor = 8\.0.* the default type has no such setting"):
        read(make_settings("llama", rope_parameters=rope | {"rope_type": "default"}))
    nested = {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    with pytest.raises(ValueError, match="full_attention"):
        read(make_settings("llama", rope_parameters=nested))
    with pytest.raises(ValueError, match=r"partial_rotary_factor = 0\.5"):
        read(make_settings("llama", rope_parameters={"partial_rotary_factor": 0.5}))
    with pytest.raises(ValueError, match="contradicts"):
        read(make_settings("llama", rope_scaling={"type": "default"}))


BAD_SIZES = [0, -1, 2.0, 1.5, True, "8", [8], {}, math.nan]
BAD_NUMBERS = [-1e-5, True, "1e-5", [], {}, math.nan, math.inf, 10**400]


@pytest.mark.parametrize(
    ("family", "keys", "values"),
    [
        ("gpt2", ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"], [*BAD_SIZES, None, 2**63]),
        ("gpt2", ["n_inner"], BAD_SIZES),
        ("gpt2", ["layer_norm_epsilon"], [*BAD_NUMBERS, 0, None]),
        ("gpt2", ["resid_pdrop"], [*BAD_NUMBERS, 1.0, None]),
        ("gpt2", ["model_type", "activation_function"], [None, 1, True, [], {}]),
        ("llama", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"], [*BAD_SIZES, None]),
        ("llama", ["num_attention_heads", "max_position_embeddings"], [*BAD_SIZES, None, 2**63]),
        ("llama", ["num_key_value_heads", "head_dim"], BAD_SIZES),
        ("llama", ["rms_norm_eps", "rope_theta"], [*BAD_NUMBERS, 0, None]),
        ("llama", ["tie_word_embeddings"], [None, 0, 1, "true"]),
        ("llama", ["rope_parameters", "rope_scaling"], [3, "default", ["default"], True]),
    ],
)
def test_wrong_types_and_sizes(make_settings, family, keys, values):
    for key in keys:
        for value in values:
            with pytest.raises(CheckpointError):
                read(make_settings(family, **{key: value}))


def test_a_wrong_theta_inside_the_object(make_settings):
    for value in [*BAD_NUMBERS, 0, None]:
        with pytest.raises(CheckpointError, match=r"rope_parameters\.rope_theta"):
            read(make_settings("llama", rope_parameters={"rope_theta": value}))


@pytest.mark.parametrize(
    ("family", "optional"),
    [
        ("gpt2", {"n_inner", "activation_function", "layer_norm_epsilon", "resid_pdrop", "architectures"}),
        (
            "llama",
            {
                "num_key_value_heads",
                "hidden_act",
                "rms_norm_eps",
                "rope_parameters",
                "tie_word_embeddings",
                "architectures",
            },
        ),
    ],
)
def test_missing_settings(make_settings, family, optional):
    for key in make_settings(family):
        settings = make_settings(family)
        del settings[key]
        if key in optional:
            read(settings)
        else:
            with pytest.raises(CheckpointError, match=key):
                read(settings)


def test_heads_that_do_not_divide(make_settings):
    for family, changes in (
        ("gpt2", {"n_head": 3}),
        ("llama", {"num_attention_heads": 3}),
        ("llama", {"num_key_value_heads": 3}),
        ("llama", {"num_attention_heads": 8, "num_key_value_heads": 8}),
    ):
        with pytest.raises(CheckpointError, match=r"n_head|n_kv_head|head width"):
            read(make_settings(family, **changes))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"a": 1,}', "not valid JSON"),
        ("[1, 2]", "expected a JSON object"),
        ("null", "expected a JSON object"),
        ('{"vocab_size": NaN}', "NaN is not JSON"),
        ('{"a": {"rope_theta": -Infinity}}', "-Infinity is not JSON"),
        ('{"rms_norm_eps": 1e999}', "overflows"),
        ('{"a": 1, "a": 2}', "occurs twice"),
        ("[" * 100_000, "more than 32"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ('{"model_type": "\\ud800"}', "model_type"),
    ],
)
def test_a_malformed_config_json(write_folder, make_tensors, text, what):
    with pytest.raises(ValueError, match=what) as caught:
        read_pretrained(write_folder(text, make_tensors("gpt2")))
    assert isinstance(caught.value, CheckpointError) or "d800" in text


def test_bytes_that_are_not_text(write_folder, make_tensors):
    folder = write_folder("{}", make_tensors("gpt2"))
    (folder / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(CheckpointError, match="UTF-8") as caught:
        read_pretrained(folder)
    assert caught.value.offset == 7
    (folder / "config.json").write_bytes(b" " * (17 << 20))
    with pytest.raises(CheckpointError, match="more than"):
        read_pretrained(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_pretrained(folder)


@pytest.mark.parametrize(
    "config",
    [GPT2, LLAMA, replace(GPT2, activation="relu", d_ff=20), replace(LLAMA, tie_embeddings=True)],
)
def test_what_is_written_reads_back(config):
    for dtype in ("float32", "float64"):
        values = json.loads(json.dumps(to_json(config, FAMILIES[family_of(config)], dtype), allow_nan=False))
        assert values["dtype"] == dtype
        assert read(values) == config


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (replace(GPT2, bias=False), "bias"),
        (replace(GPT2, tie_embeddings=False), "tie_embeddings"),
        (replace(GPT2, norm="rmsnorm"), "norm"),
        (replace(GPT2, position="rope", bias=False), "bias"),
        (replace(GPT2, activation="swiglu"), "activation"),
        (replace(GPT2, n_kv_head=1), "n_kv_head"),
        (replace(LLAMA, rope_layers=(True, False), attention_bias="qkv"), "attention_bias"),
        (replace(LLAMA, qk_norm="full"), "qk_norm"),
        (replace(LLAMA, attention_scale=0.3), "attention_scale"),
        (replace(LLAMA, norm="layernorm"), "norm"),
        (replace(LLAMA, position="learned"), "position"),
        (replace(LLAMA, activation="gelu"), "activation"),
        (replace(LLAMA, dropout=0.1, qk_norm="head"), "dropout"),
    ],
)
def test_a_config_of_no_family_names_the_field(config, field):
    with pytest.raises(ValueError, match=f"{field}="):
        family_of(config)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_writes_itself(name):
    config = read(SMALL[name])
    assert family_of(config, name) == name
    values = json.loads(json.dumps(to_json(config, FAMILIES[name], "float32"), allow_nan=False))
    assert values["model_type"] == name
    assert read(values) == config
    # Phi-3 without what sets it apart is Llama with its matrices in other places
    assert family_of(config) == {"phi3": "llama"}.get(name, name)


def test_what_is_one_model_is_of_one_family():
    """A window wider than the context, an odd spelling of the defaults."""
    wide = replace(
        LLAMA, sliding_window=16, head_dim=2, rope_layers=(True, True), rotary_dim=2, attention_scale=2**-0.5
    )
    assert family_of(wide) == "llama"
    assert family_of(replace(LLAMA, sliding_window=15)) == "mistral"
    assert family_of(replace(LLAMA, dropout=0.1)) == "phi3"
    assert family_of(replace(GPT2, rope_theta=5.0)) == "gpt2"
    assert family_of(replace(GPT2, position="rope", parallel_residual=True)) == "gpt_neox"


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["gpt2", "llama", "gelu", "silu", "relu", "default", "linear", 2**63, 2**64, 1e308, 5e-324])
)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3), max_leaves=6
)
KEYS = sorted(
    {"rope_parameters", "rope_scaling", "rope_theta", "head_dim"}.union(
        *(family.harmless | set(family.neutral) for family in FAMILIES.values())
    )
)


@pytest.mark.unsanitized("translates JSON: Python alone")
@settings(max_examples=400, derandomize=True)
@given(data=st.data(), family=st.sampled_from(list(FAMILIES)))
def test_any_values_are_translated_or_refused(data, family):
    """Whatever a file says, the outcome is a ModelConfig or a ValueError, which CheckpointError is too."""
    base = to_json(config_from_json("config.json", SMALL[family]), FAMILIES[family], "float32")
    names = st.sampled_from(sorted({*base, *KEYS})) | st.text(max_size=8)
    values = base | data.draw(st.dictionaries(names, VALUES, min_size=1, max_size=3))
    try:
        outcome = read(values)
    except ValueError as error:
        outcome = str(error)
    assert isinstance(outcome, ModelConfig) or "config.json" in outcome
