"""VisionConfig and CaptionerConfig: checks, presets, dicts and TOML."""

from __future__ import annotations

import pytest

from loopos import ModelConfig, _core
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, VisionConfig
from loopos.vision.config import FUSIONS


@pytest.mark.parametrize(
    ("changes", "kind", "match"),
    [
        ({"image_size": 30}, ValueError, "multiples of patch_size 8, got"),
        ({"image_size": (8, 8, 3)}, ValueError, r"\(height, width\)"),
        ({"image_size": "64"}, TypeError, "image_size"),
        ({"patch_size": 0}, ValueError, "patch_size"),
        ({"num_classes": 1}, ValueError, "num_classes must be 0"),
        ({"pool": "class"}, ValueError, "needs class_token"),
        ({"pool": "max"}, ValueError, "pool"),
        ({"d_model": 130}, ValueError, "n_head"),
        ({"norm": "none"}, ValueError, "norm"),
        ({"activation": "swish"}, ValueError, "activation"),
        ({"dropout": 1.0}, ValueError, "dropout"),
        ({"image_mean": (0.5,)}, ValueError, "image_mean must be 3 numbers"),
        ({"image_std": (1.0, 0.0, 1.0)}, ValueError, "image_std must be above 0"),
    ],
)
def test_vision_refusals(changes, kind, match):
    with pytest.raises(kind, match=match):
        VisionConfig(**changes)


def test_captioner_refusals():
    encoder, decoder = VisionConfig(), ModelConfig(8, 8, 1, 1, 4)
    for values, kind, match in (
        ((encoder, decoder, "sum"), ValueError, "fusion"),
        ((decoder, decoder), TypeError, "encoder must be a VisionConfig"),
        ((encoder, encoder), TypeError, "decoder must be a ModelConfig"),
        ((VisionConfig(num_classes=3), decoder), ValueError, "num_classes 0"),
        ((encoder, ModelConfig(8, 8, 1, 1, 4, labels=("a", "b"))), ValueError, "labels"),
        ((encoder, ModelConfig(8, 8, 1, 1, 4, sliding_window=3)), ValueError, "sliding_window 0"),
        ((encoder, ModelConfig(8, 8, 1, 1, 4, parallel_residual=True), "cross"), ValueError, "parallel_residual"),
    ):
        with pytest.raises(kind, match=match):
            CaptionerConfig(*values)


@pytest.mark.parametrize(
    "config", [VisionConfig.vit_ti16(), VisionConfig((16, 8), d_ff=7, bias=False, norm="rmsnorm", activation="swiglu")]
)
def test_dicts_and_sizes_of_encoders(config):
    assert VisionConfig.from_dict(config.to_dict()) == config
    assert sum(view.size for view in ImageEncoder(config).parameters().values()) == config.num_parameters()


def test_presets():
    tiny, nano = CaptionerConfig.tiny(50), CaptionerConfig.nano_8gb()
    assert 1_000_000 < tiny.num_parameters() < 2_000_000
    assert 10_000_000 < nano.num_parameters() < 30_000_000
    assert VisionConfig.vit_ti16().num_parameters() == 5_717_416  # as timm counts it
    assert (tiny.vocab_size, tiny.context_length, nano.encoder.rows) == (50, 32, 196)
    other = ModelConfig(9, 7, 2, 4, 24, n_kv_head=2, norm="rmsnorm", norm_placement="both", attention_bias="qkv")
    more = (CaptionerConfig(VisionConfig(bias=False), decoder, "cross") for decoder in (tiny.decoder, other))
    for config in (tiny, nano, *more):
        assert CaptionerConfig.from_dict(config.to_dict()) == config
        assert sum(view.size for view in Captioner(config).parameters().values()) == config.num_parameters()


def test_fusions_are_those_of_the_core():
    assert _core.choices()["fusion"] == FUSIONS


def test_toml(tmp_path):
    path = tmp_path / "captioner.toml"
    path.write_text(
        'fusion = "prefix"\n[encoder]\nimage_size = [16, 24]\npatch_size = 8\n[decoder]\nvocab_size = 9\n'
        "context_length = 5\nn_layer = 1\nn_head = 1\nd_model = 4\n"
    )
    want = CaptionerConfig(VisionConfig((16, 24), 8), ModelConfig(9, 5, 1, 1, 4))
    assert CaptionerConfig.from_toml(path) == want
    for text, match in (
        ("[encoder]\n", "decoder is missing"),
        ("x = ", "toml"),
        ("[encoder]\nsize = 3\n[decoder]\n", "size"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=match):
            CaptionerConfig.from_toml(path)
