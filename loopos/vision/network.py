"""What an encoder of pictures and a captioner share beside what every network has: what looks at the pictures."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from loopos import network
from loopos.model import for_core

from .config import VisionConfig
from .pixels import normalised


class Network(network.Network):
    """One of the two. A kind has ``vision``, too."""

    @property
    @abstractmethod
    def vision(self) -> VisionConfig:
        """The configuration of what looks at the pictures."""

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """images (B, height, width, channels), uint8 or floats from 0 to 1, as the core takes them: of the model's
        dtype, (pixel - image_mean) / image_std."""
        return normalised(f"{type(self).__name__}.pixels", images, self.vision, self.dtype)


def vision_for_core(config: VisionConfig, decoder_width: int = 0) -> dict[str, Any]:
    """What ``image_config_from`` in bindings/model_config.cpp reads."""
    return {
        "height": config.height,
        "width": config.width,
        "channels": config.channels,
        "patch_size": config.patch_size,
        "class_token": int(config.class_token),
        "num_classes": config.num_classes,
        "pools_patches": config.pool == "mean",
        "decoder_width": decoder_width,
        "blocks": for_core(config.blocks()),
    }
