"""Models of pictures that are measured: the sizes of the issue, the same data for all, and an honest count."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from loopos.bench.picture_settings import PICTURES, SMALL, PictureSetting, named, setting_from
from loopos.bench.settings import BATCHES, SETTINGS
from loopos.vision import CaptionerConfig, VisionConfig


def test_the_settings_are_those_of_the_issue():
    assert PICTURES["tiny"].config == CaptionerConfig.tiny(64, 16)
    assert PICTURES["nano_8gb"].config == CaptionerConfig.nano_8gb()
    assert PICTURES["vit_ti16"].config == VisionConfig.vit_ti16()
    assert {name: setting.batch for name, setting in PICTURES.items()} == {"tiny": 32, "nano_8gb": 8, "vit_ti16": 8}


def test_flops_of_a_classifier_by_hand():
    """small-vit: 16 patches of 48 numbers and a class token, two layers, C 16, B 2, 5 classes. Multiply-adds, forward:
    of each row 16 x 48 for q, k and v, 16 x 16, and twice 16 x 64; of each of 17 x 17 pairs twice 16."""
    flops = SMALL["small-vit"].flops()
    patches = 2 * 16 * 48 * 16
    linear = 2 * (2 * 17 * (16 * 48 + 16 * 16 + 2 * 16 * 64) + 16 * 5)
    assert flops.linear == 2 * (3 * linear + 2 * patches)
    assert flops.attention == 3 * 2 * 2 * 2 * (17 * 17 * 2 * 16)


def test_flops_of_a_captioner_by_hand():
    """small-captioner: 16 rows of a picture see each other and stand before 8 tokens, each of which sees them and those
    before it; logits of 17 words are of the tokens alone."""
    block = 16 * 48 + 16 * 16 + 2 * 16 * 64
    flops = SMALL["small-captioner"].flops()
    linear = 2 * (2 * 16 * block + 16 * 16 * 16 + 2 * (16 + 8) * block + 8 * 16 * 17)
    assert flops.linear == 2 * (3 * linear + 2 * (2 * 16 * 48 * 16))
    pairs = 16 * 16 + (16 * 16 + 8 * 16 + 36)
    assert flops.attention == 3 * 2 * 2 * 2 * (pairs * 2 * 16)


def test_with_cross_attention_a_picture_is_no_row_of_the_decoder():
    """But each of its blocks has a projection of q and one of the output more, and keys and values of all rows."""
    small = SMALL["small-captioner"]
    block = 16 * 48 + 16 * 16 + 2 * 16 * 64
    flops = replace(small, config=replace(small.config, fusion="cross")).flops()
    linear = 2 * (2 * 16 * block + 16 * 16 * 64 + 2 * 8 * (block + 2 * 16 * 16) + 8 * 16 * 17)
    assert flops.linear == 2 * (3 * linear + 2 * (2 * 16 * 48 * 16))
    assert flops.attention == 3 * 2 * 2 * 2 * ((16 * 16 + 36 + 8 * 16) * 2 * 16)


def test_data_are_the_same_every_time():
    captions, classes = SMALL["small-captioner"], SMALL["small-vit"]
    for batch, again in zip(captions.data(3), captions.data(3), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(batch, again, strict=True))
    data = captions.data(3)
    assert len(data) == len(classes.data()) == BATCHES
    ids, targets, images = data[0]
    assert (ids.shape, targets.shape, images.shape, images.dtype) == ((2, 8), (2, 8), (2, 16, 16, 3), np.uint8)
    assert 0 <= ids.min() <= ids.max() < 17
    assert not np.array_equal(data[0][2], data[1][2])
    images, labels = classes.data()[0]
    assert (images.shape, labels.shape) == ((2, 16, 16, 3), (2,))
    assert not np.array_equal(images, captions.data(4)[0][2])


def test_a_setting_survives_json():
    for setting in (PICTURES | SMALL).values():
        assert setting_from(json.loads(json.dumps(setting.to_dict()))) == setting
        assert isinstance(setting, PictureSetting)
    assert setting_from(SETTINGS["nano"].to_dict()) == SETTINGS["nano"]


def test_names():
    assert [each.name for each in named("vit_ti16,tiny,vit_ti16")] == ["vit_ti16", "tiny"]
    with pytest.raises(ValueError, match=r"out of tiny, nano_8gb, vit_ti16 \(or small-captioner, .*got 'nano'"):
        named("nano")
