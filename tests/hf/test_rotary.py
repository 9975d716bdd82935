"""The rotary settings of config.json, old and new."""

from __future__ import annotations

import json

import pytest

from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json
from loopos.rope import RopeScaling

SIZES = dict(norm="rmsnorm", position="rope", activation="swiglu", bias=False)
PLAIN = {"rope_theta": 10000.0, "rope_scaling": None, "rotary_dim": 0}
LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
SCALINGS = [
    None,
    RopeScaling(rope_type="linear", factor=2.0),
    RopeScaling(rope_type="dynamic", factor=2.0),
    RopeScaling(rope_type="llama3", **LLAMA3),
    RopeScaling(rope_type="yarn", factor=2.0, truncate=False, beta_fast=16.0),
]


def read(partial=None, **values):
    return rotary(Settings("config.json", values), {"d_model": 16, "n_head": 2}, partial=partial)


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda scaling: getattr(scaling, "rope_type", "default"))
@pytest.mark.parametrize("rotary_dim", [0, 4])
def test_what_is_written_reads_back(scaling, rotary_dim):
    config = ModelConfig(11, 64, 2, 2, 16, rope_theta=50.0, rope_scaling=scaling, rotary_dim=rotary_dim, **SIZES)
    written = json.loads(json.dumps(rotary_json(config)))
    expected = {"rope_theta": 50.0, "rope_scaling": scaling, "rotary_dim": rotary_dim}
    assert read(("rotary_pct", 1.0), **written) == expected
    old = {name: value for name, value in written.items() if name != "rope_parameters"}
    if scaling is not None:  # else nothing says the part
        assert read(("rotary_pct", 1.0), **old) == expected
    new = {"rope_parameters": written["rope_parameters"]}
    assert read(("rotary_pct", 1.0), **new) == expected


def test_the_object_comes_before_the_top_level():
    assert read(rope_theta=7.0, rope_parameters={"rope_theta": 8.0})["rope_theta"] == 8.0
    assert read(rope_theta=7.0)["rope_theta"] == 7.0
    assert read() == PLAIN


def test_older_names():
    scaling = {"type": "llama3", **LLAMA3, "beta_fast": None}
    assert read(rope_scaling=scaling)["rope_scaling"] == RopeScaling(rope_type="llama3", **LLAMA3)
    assert read(rope_scaling=scaling | {"rope_type": "llama3"})["rope_scaling"].factor == 8.0
    with pytest.raises(ValueError, match="contradicts rope_type = 'linear'"):
        read(rope_scaling=scaling | {"rope_type": "linear"})


def test_two_of_which_one_is_not_supported():
    with pytest.raises(ValueError, match=r"rope_scaling\.type = 'longrope' is not supported"):
        read(rope_scaling={"type": "longrope"}, rope_parameters={"rope_type": "default"})


def test_two_that_differ():
    with pytest.raises(ValueError, match="contradicts"):
        read(rope_scaling={"type": "linear", "factor": 2.0}, rope_parameters={"rope_theta": 8.0})
    same = {"rope_type": "linear", "factor": 2.0}
    assert read(rope_scaling=same, rope_parameters=same | {"rope_theta": 8.0}, rope_theta=8.0)["rope_theta"] == 8.0


def test_a_part_of_a_head():
    assert read(("rotary_pct", 0.25))["rotary_dim"] == 2
    assert read(("rotary_pct", 0.25), rotary_pct=0.5)["rotary_dim"] == 4
    assert read(("rotary_pct", 0.25), rope_parameters={"partial_rotary_factor": 1.0})["rotary_dim"] == 0
    with pytest.raises(ValueError, match="it turns 1 of the 8 numbers"):
        read(("rotary_pct", 0.2))
    with pytest.raises(
        ValueError, match=r"rope_parameters\.partial_rotary_factor = 0\.5 is not supported: it must be 1"
    ):
        read(rope_parameters={"partial_rotary_factor": 0.5})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"factor": 0.5}, "factor"),
        ({"factor": "2"}, "factor"),
        ({"factor": None}, "needs factor"),
        ({"low_freq_factor": 5.0}, "high_freq_factor must be greater"),
        ({"beta_fast": 32}, "does not read beta_fast"),
        ({"original_max_position_embeddings": 8.5}, "original_max_position_embeddings"),
        ({"rope_theta": 0}, r"rope_scaling\.rope_theta"),
    ],
)
def test_wrong_settings_of_a_type(changes, what):
    with pytest.raises(CheckpointError, match=what):
        read(rope_scaling={"type": "llama3", **LLAMA3, **changes})


def test_a_setting_that_no_type_has():
    with pytest.raises(ValueError, match=r"rope_scaling\.finetuned = True is not supported"):
        read(rope_scaling={"type": "linear", "factor": 2.0, "finetuned": True})
