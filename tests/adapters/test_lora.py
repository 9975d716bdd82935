"""LoRA as people write it: what is refused, and with which sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest

import loopos
from loopos import LoRA


def test_scale_is_that_of_its_formula():
    assert LoRA(8, 16).scale == 2
    assert LoRA(16, 8, rslora=True).scale == 2
    assert LoRA(3, 1, rslora=True).scale == 1 / math.sqrt(3)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (dict(rank=0), ValueError, "rank must be an integer of at least 1, got 0"),
        (dict(rank=8.0), TypeError, "rank"),
        (dict(rank=True), TypeError, "rank"),
        (dict(alpha=0), ValueError, "alpha must be a finite number greater than 0, got 0"),
        (dict(alpha=math.nan), ValueError, "alpha"),
        (dict(alpha="16"), TypeError, "alpha"),
        (dict(dropout=1), ValueError, "dropout"),
        (dict(dropout=-0.1), ValueError, "dropout"),
        (dict(rslora=1), TypeError, "rslora must be True or False"),
        (dict(dora="yes"), TypeError, "dora"),
        (dict(targets=()), ValueError, "targets must be 'all-linear' or 'attention', or names"),
        (dict(targets=("q_proj", "")), ValueError, "targets"),
        (dict(targets=(".q_proj",)), ValueError, "targets"),
        (dict(targets=3), TypeError, "targets"),
        (dict(targets=("q_proj", 3)), TypeError, "targets"),
    ],
)
def test_what_cannot_be_is_refused(given, error, says):
    with pytest.raises(error, match=says):
        LoRA(**given)


def test_options_come_by_name():
    with pytest.raises(TypeError):
        LoRA(8, 16, 0.0, "all-linear", True)


def test_targets_are_names_each_once():
    assert LoRA(targets="q_proj").targets == ("q_proj",)
    assert LoRA(targets=["v_proj", "q_proj", "v_proj"]).targets == ("v_proj", "q_proj")
    assert LoRA(targets={"v_proj", "q_proj"}).targets == ("q_proj", "v_proj")
    assert LoRA(targets="attention").targets == "attention"


def test_is_plain_and_frozen():
    spec = LoRA(np.int64(4), np.float32(8), targets=["c_attn"], dora=True)
    assert spec == loopos.LoRA(4, 8.0, targets=("c_attn",), dora=True)
    assert LoRA.from_dict(spec.to_dict()) == spec
    assert spec.to_dict()["targets"] == ["c_attn"]
    with pytest.raises(AttributeError):
        spec.rank = 2
