"""The rotary settings of config.json, old and new."""

from __future__ import annotations

import pytest

from loopos.config import ModelConfig
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json

SIZES = dict(norm="rmsnorm", position="rope", activation="swiglu", bias=False)


def read(**values):
    return rotary(Settings("config.json", values))


def test_what_is_written_reads_back():
    config = ModelConfig(11, 64, 2, 2, 16, rope_theta=50.0, **SIZES)
    assert read(**rotary_json(config)) == {"rope_theta": 50.0}


def test_the_object_comes_before_the_top_level():
    assert read(rope_theta=7.0, rope_parameters={"rope_theta": 8.0}) == {"rope_theta": 8.0}
    assert read(rope_theta=7.0) == {"rope_theta": 7.0}
    assert read() == {"rope_theta": 10000.0}


def test_two_that_differ():
    with pytest.raises(ValueError, match="contradicts"):
        read(rope_scaling={"type": "default"}, rope_parameters={"rope_theta": 8.0})
