"""Pictures as the core takes them: finite numbers of the model's dtype, normalised by channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .config import VisionConfig


def normalised(where: str, images: Any, config: VisionConfig, dtype: str) -> np.ndarray:
    """(pixel - mean) / std of images (B, height, width, channels): uint8, which are divided by 255, or floats from 0 to
    1 of the model's dtype.

    TypeError for another dtype, ValueError for another shape or a pixel that is not finite."""
    images = checks.unmasked(where, "images", images)
    if not isinstance(images, np.ndarray) or images.dtype not in (np.dtype(np.uint8), np.dtype(dtype)):
        got = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"{where}: images must be a numpy array of uint8 (0 to 255) or {dtype} (0 to 1), got {got}")
    wanted = (config.height, config.width, config.channels)
    if images.ndim != 4 or images.shape[1:] != wanted:
        raise ValueError(
            f"{where}: images must have shape (B, height, width, channels) = (B, {', '.join(map(str, wanted))}), got "
            f"{images.shape}; resize them, or give the model another image_size or channels"
        )
    kind = np.dtype(dtype).type
    unit = kind(255) if images.dtype == np.uint8 else kind(1)
    mean, std = (np.asarray(values, kind) for values in (config.image_mean, config.image_std))
    # scale x + shift: one multiplication and one addition a number
    pixels = np.multiply(images, 1 / (unit * std), dtype=dtype)
    pixels -= mean / std
    return pixels
