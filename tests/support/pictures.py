"""Small models and batches that the tests of this folder share."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ModelConfig
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, VisionConfig


def vision(**changes) -> VisionConfig:
    return VisionConfig((8, 12), 4, 2, 2, 8, channels=2, **changes)


def shaken(model, seed=0):
    """The model with weights that leave no gradient small by chance."""
    rng = np.random.default_rng(seed)
    for view in model.parameters().values():
        view += (0.1 * rng.standard_normal(view.shape)).astype(view.dtype)
    return model


def classifier(dtype="float64", **changes) -> ImageEncoder:
    return shaken(ImageEncoder(vision(num_classes=3, **changes), seed=1, dtype=dtype))


def captioner(dtype="float64", decoder=None, fusion="prefix", **changes) -> Captioner:
    decoder = ModelConfig(11, 7, 2, 2, 12) if decoder is None else decoder
    return shaken(Captioner(CaptionerConfig(vision(**changes), decoder, fusion), seed=1, dtype=dtype))


def pictures(batch=3, dtype="float64", seed=0):
    return np.random.default_rng(seed).random((batch, 8, 12, 2)).astype(dtype)


def texts(batch=3, time=5, seed=0):
    rng = np.random.default_rng(seed)
    ids, targets = rng.integers(0, 11, (batch, time)), rng.integers(0, 11, (batch, time))
    if time > 2:
        targets[0, 2:] = -100
    return ids, targets


def central_difference(model, loss, name, index, step=1e-5):
    view = model.parameters()[name]
    kept = view[index]
    values = []
    for at in (kept + step, kept - step):
        view[index] = at
        values.append(loss())
    view[index] = kept
    return (values[0] - values[1]) / (2 * step)


def worst_difference(model, loss, gradients, per_tensor=3):
    """The largest relative error of a gradient against central differences, over some numbers of every tensor."""
    rng, worst = np.random.default_rng(0), 0.0
    for name, gradient in gradients.items():
        for _ in range(per_tensor):
            index = tuple(int(rng.integers(n)) for n in gradient.shape)
            want = central_difference(model, loss, name, index)
            worst = max(worst, abs(want - gradient[index]) / max(1e-3, abs(want)))
    return worst


def two_shades(folder):
    """Two classes of forty pictures each."""
    image = pytest.importorskip("PIL.Image", reason="writes pictures (extra [vision])")
    for name, shade in (("dark", 40), ("light", 200)):
        (folder / name).mkdir(parents=True)
        for i in range(40):
            image.new("RGB", (8, 8), (shade, shade, 5 * i)).save(folder / name / f"{i}.png")
    return folder
