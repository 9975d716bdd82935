"""What is measured: the sizes of the issue, the same data for all, and an honest count of the arithmetic."""

from __future__ import annotations

import json

import numpy as np
import pytest

from loopos.bench.settings import BATCHES, SETTINGS, TINY, Setting, named, step_flops

SIZES = {  # V, T, layers, heads, C, B
    "micro": (65, 32, 2, 2, 64, 8),
    "nano": (65, 64, 4, 4, 128, 12),
    "baby": (65, 256, 6, 6, 384, 8),
    "wide": (256, 128, 4, 16, 1024, 8),
    "gpt2": (50257, 64, 12, 12, 768, 4),
    "long": (65, 1024, 6, 6, 384, 2),
    "llama": (32000, 128, 8, 12, 768, 2),
}


def test_the_settings_are_the_published_ones():
    found = {}
    for name, setting in SETTINGS.items():
        c = setting.config
        found[name] = (c.vocab_size, c.context_length, c.n_layer, c.n_head, c.d_model, setting.batch)
        assert c.d_ff == 4 * c.d_model
        assert c.dropout == 0
    assert found == SIZES
    llama = SETTINGS["llama"].config
    assert (llama.n_kv_head, llama.norm, llama.activation, llama.position) == (4, "rmsnorm", "swiglu", "rope")
    assert not llama.bias
    assert not llama.tie_embeddings
    assert SETTINGS["gpt2"].config.num_parameters() == 124_439_808 - (1024 - 64) * 768  # GPT-2's, 64 positions


def test_flops_of_a_step_by_hand():
    """tiny: V 17, T 8, one layer, two heads of width 8, C 16, B 2. For each of 16 tokens, forward, in multiply-adds:
    qkv 16 x 48, out 16 x 16, up 16 x 64, down 64 x 16, head 16 x 17. Attention: 36 of the 64 pairs, twice 16 wide."""
    forward = 16 * (16 * 48 + 16 * 16 + 16 * 64 + 64 * 16 + 16 * 17)
    attention = 2 * 36 * 16 * 2
    flops = step_flops(TINY["tiny"])
    assert (flops.linear, flops.attention) == (3 * 2 * forward, 3 * 2 * attention)
    assert flops.total == flops.linear + flops.attention == flops.to_dict()["total"]


def test_flops_with_fewer_key_value_heads_and_a_gate():
    """tiny-llama: two layers, four heads of width 4 of which two key/value, qkv 16 x (16 + 8 + 8), three matrices."""
    forward = 16 * (2 * (16 * 32 + 16 * 16 + 3 * 16 * 64) + 16 * 17)
    assert step_flops(TINY["tiny-llama"]).linear == 3 * 2 * forward
    assert step_flops(TINY["tiny-llama"]).attention == 3 * 2 * 2 * (2 * 36 * 16 * 2)


def test_data_are_the_same_every_time_and_within_the_vocabulary():
    setting = TINY["tiny"]
    data = setting.data(seed=3)
    assert len(data) == BATCHES
    for (ids, targets), (again, _) in zip(data, setting.data(seed=3), strict=True):
        assert ids.shape == targets.shape == (2, 8)
        assert ids.dtype == np.int64
        assert np.array_equal(ids, again)
        assert 0 <= ids.min() <= ids.max() < 17
        assert not np.array_equal(ids, targets)
    assert not np.array_equal(data[0][0], setting.data(seed=4)[0][0])


def test_a_setting_survives_json():
    for setting in (SETTINGS | TINY).values():
        assert Setting.from_dict(json.loads(json.dumps(setting.to_dict()))) == setting


def test_resized_follows_the_defaults_of_the_model():
    setting = SETTINGS["llama"].resized("x", d_model=96, n_head=6, batch=5)
    assert (setting.config.d_ff, setting.config.n_kv_head, setting.batch) == (384, 6, 5)
    assert SETTINGS["llama"].resized("y", n_layer=1).config.n_kv_head == 4


def test_names():
    assert [each.name for each in named("baby,micro,baby")] == ["baby", "micro"]
    with pytest.raises(ValueError, match=r"out of micro, nano, .*got 'nana'"):
        named("micro,nana")
