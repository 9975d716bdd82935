"""The keys of config.json: no key is both harmless and neutral; when weights are quantized."""

from __future__ import annotations

import pytest

from loopos.hf import known
from loopos.hf.families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.model_type)
def test_a_key_is_judged_in_one_way(family):
    harmless, neutral = family.harmless, family.neutral
    assert harmless >= known.HARMLESS
    assert set(neutral) >= set(known.NEUTRAL)
    assert not harmless & set(neutral)
    assert not (harmless | set(neutral)) & set(known.QUANTIZATION)


@pytest.mark.parametrize("key", ["dtype", "_name_or_path", "image_token_id", "begin_token_ids"])
def test_bookkeeping(key):
    assert known.is_bookkeeping(key, known.HARMLESS)


@pytest.mark.parametrize("key", ["rope_scaling", "hidden_size", "sliding_window"])
def test_what_may_change_numbers_is_no_bookkeeping(key):
    assert not known.is_bookkeeping(key, known.HARMLESS)


@pytest.mark.parametrize(
    ("value", "method"),
    [
        (None, None),
        ({}, None),
        ({"load_in_4bit": False, "load_in_8bit": False}, None),
        ({"load_in_4bit": True, "load_in_8bit": False}, "a method it does not name"),
        ({"quant_method": "gptq"}, "gptq"),
        ("awq", "a method it does not name"),
    ],
)
def test_quantized_weights(value, method):
    assert known.quantized_with(value) == method
