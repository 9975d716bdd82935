"""transformers' ViT: folders both ways, and the same logits, on models that are made at random."""

from __future__ import annotations

import json

import numpy as np
import pytest

from loopos import CheckpointError
from loopos.vision import ImageEncoder, VisionConfig

torch = pytest.importorskip("torch", reason="compares with transformers, which needs torch")
transformers = pytest.importorskip("transformers", reason="compares with transformers")


def theirs(kind="ViTForImageClassification", dtype=None, **changes):
    torch.manual_seed(0)
    settings = {
        "image_size": 24, "patch_size": 8, "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32,
        "intermediate_size": 96, "num_labels": 5, "layer_norm_eps": 1e-12,
    }  # fmt: skip
    model = getattr(transformers, kind)(transformers.ViTConfig(**settings | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model if dtype is None else model.to(dtype)


def images_and_pixels(channels=3):
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 24, channels), np.uint8)
    return images, torch.tensor((images / 255.0 - 0.5) / 0.5).permute(0, 3, 1, 2)


def near(got, want, tolerance):
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= tolerance * np.linalg.norm(want)


@pytest.mark.parametrize("changes", [{}, {"hidden_act": "gelu_new", "num_channels": 1}, {"layer_norm_eps": 1e-3}])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
def test_logits_are_transformers(tmp_path, changes, dtype, tolerance):
    model = theirs(dtype=dtype, **changes)
    model.save_pretrained(tmp_path)
    images, pixels = images_and_pixels(changes.get("num_channels", 3))
    ours = ImageEncoder.from_pretrained(tmp_path)
    with torch.no_grad():
        want = model(pixels.to(dtype)).logits.numpy()
    near(ours.logits(images), want, tolerance)


def test_rows_of_a_model_without_classes(tmp_path):
    model = theirs("ViTModel", dtype=torch.float64)
    model.save_pretrained(tmp_path)
    images, pixels = images_and_pixels()
    with torch.no_grad():
        want = model(pixels).last_hidden_state.numpy()
    near(ImageEncoder.from_pretrained(tmp_path).forward(images), want, 1e-12)


@pytest.mark.parametrize(("classes", "kind"), [(5, "ViTForImageClassification"), (0, "ViTModel")])
def test_transformers_opens_what_is_saved(tmp_path, classes, kind):
    ours = ImageEncoder(VisionConfig(24, 8, 2, 4, 32, class_token=True, num_classes=classes, norm_eps=1e-12), seed=3)
    ours.save_pretrained(tmp_path)
    model, report = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all("pooler" in key for key in report["missing_keys"])
    images, pixels = images_and_pixels()
    with torch.no_grad():
        out = model.eval()(pixels.float())
    want = (out.logits if classes else out.last_hidden_state).numpy()
    near(ours.logits(images) if classes else ours.forward(images), want, 5e-6)
    again = ImageEncoder.from_pretrained(tmp_path)
    assert again.config == ours.config
    assert all((again.parameters()[name] == view).all() for name, view in ours.parameters().items())


def test_the_processors_mean_and_deviation(tmp_path):
    theirs().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]})
    )
    config = ImageEncoder.from_pretrained(tmp_path).config
    assert (config.image_mean, config.image_std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


def test_refusals(tmp_path):
    theirs().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    for changed, kind, match in (
        ({"model_type": "deit"}, ValueError, "model_type must be 'vit', got 'deit'"),
        ({"qkv_bias": False}, ValueError, "qkv_bias"),
        ({"hidden_act": "quick_gelu"}, ValueError, "hidden_act"),
        ({"rotary": 3}, ValueError, "rotary"),
        ({"num_hidden_layers": 2}, CheckpointError, "unexpected tensors"),
        ({"num_hidden_layers": 4}, CheckpointError, "is missing"),
        ({"hidden_size": 64}, CheckpointError, "must have shape"),
    ):
        path.write_text(json.dumps(settings | changed))
        with pytest.raises(kind, match=match):
            ImageEncoder.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no class_token=False"):
        ImageEncoder(VisionConfig(24, 8, 1, 1, 8)).save_pretrained(tmp_path / "new")
