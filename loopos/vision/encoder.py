"""An encoder of pictures, alone or as a classifier."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from loopos import _core
from loopos.calls import serialised

from . import vit
from .config import VisionConfig
from .network import Network, vision_for_core

_CLASSES = {"float32": _core.ImageEncoderF32, "float64": _core.ImageEncoderF64}


class ImageEncoder(Network):
    """An encoder of pictures that a :class:`VisionConfig` describes; with ``num_classes`` a classifier.

    seed: of the initial weights (normal 0.02, positions 0.3, residual outputs 0.02 / sqrt(2 n_layer),
    biases 0, norm weights 1).
    Wherever images are taken they are (B, height, width, channels), uint8, or floats of the model's dtype from 0 to 1;
    they are normalised by the configuration's image_mean and image_std. Another dtype raises TypeError, another shape
    or a pixel that is not finite ValueError."""

    _config_type = VisionConfig

    def _make_core(self, dtype: str, seed: int | None) -> Any:
        return _CLASSES[dtype](vision_for_core(self._config), seed)

    @property
    def vision(self) -> VisionConfig:
        """The configuration of what looks at the pictures."""
        return self._config

    @serialised
    def forward(self, images: np.ndarray) -> np.ndarray:
        """(B, P, C): a row for each patch, from left to right, then down, behind that of the class token if there is
        one."""
        return self._core.forward(self.pixels(images))

    @serialised
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Of a classifier: (B, num_classes). ValueError of one without classes, here and below."""
        return self._core.logits(self.pixels(images))

    @serialised
    def loss(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Mean cross-entropy in nats over labels (B), ints from 0 to num_classes - 1, that are not -100."""
        total, count = self._core.loss(self.pixels(images), labels)
        return total / count if count else 0.0

    @serialised
    def loss_and_grads(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """The loss and its gradient for every trainable parameter, as fresh arrays. NonFiniteError when one of them or
        an activation is not finite; its ``birth`` says where it arose."""
        return self._loss_and_grads((self.pixels(images), labels), {})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, precision: str | None = None) -> ImageEncoder:
        """The model of a folder of transformers: ViTModel, or ViTForImageClassification with its classes. A float64
        file gives a float64 model. precision: as of ImageEncoder. ValueError for a setting that is not supported,
        CheckpointError for a malformed file."""
        config, arrays, path = vit.read(folder)
        return cls._of(config, arrays, path, precision)

    @serialised
    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json, preprocessor_config.json and model.safetensors, as transformers' ViT has them. ValueError
        naming the field that a ViT has otherwise."""
        vit.write(folder, self._config, self.parameters())
