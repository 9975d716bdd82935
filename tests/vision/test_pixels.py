"""Pixels: what is normalised by what, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import captioner, classifier, pictures

from loopos.vision import ImageEncoder, VisionConfig


def test_bytes_and_floats_are_normalised_alike():
    config = VisionConfig(8, 4, 1, 1, 4, image_mean=(0.1, 0.2, 0.3), image_std=(0.5, 0.25, 1))
    model = ImageEncoder(config, dtype="float64")
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    want = (images / 255.0 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 1]
    np.testing.assert_allclose(model.pixels(images), want, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(model.pixels(images / 255.0), want, rtol=1e-13, atol=1e-13)
    small = ImageEncoder(config)
    assert small.pixels(images).dtype == np.float32
    np.testing.assert_allclose(small.pixels(images), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("model", [classifier(), captioner()])
def test_refusals(model):
    images = pictures()
    with pytest.raises(TypeError, match=r"uint8 \(0 to 255\) or float64 \(0 to 1\), got float32"):
        model.pixels(images.astype(np.float32))
    with pytest.raises(TypeError, match="got list"):
        model.pixels(images.tolist())
    for shape in ((3, 12, 8, 2), (3, 8, 12, 3), (8, 12, 2)):
        with pytest.raises(ValueError, match=r"\(B, 8, 12, 2\), got \(" + ", ".join(map(str, shape))):
            model.pixels(np.zeros(shape))
    images[1, 2, 3, 1] = np.nan
    forward = model.forward if isinstance(model, ImageEncoder) else lambda x: model.forward(x, np.zeros((3, 2), int))
    with pytest.raises(ValueError, match=r"images must be finite, got -?nan at \[1, 2, 3, 1\]"):
        forward(images)
