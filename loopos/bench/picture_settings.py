"""Models of pictures that are measured: captioners and a classifier, the same data for every engine, and the arithmetic
that a step needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from loopos.config import ModelConfig
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, VisionConfig

from .settings import BATCHES, Flops, Setting, named_of


@dataclass(frozen=True)
class PictureSetting:
    """A captioner or a classifier of pictures, and the batch of one step: ``batch`` pictures, each with a caption of
    ``config.context_length`` tokens, or a class."""

    name: str
    config: CaptionerConfig | VisionConfig
    batch: int

    @property
    def encoder(self) -> VisionConfig:
        return self.config.encoder if self.captions else self.config

    @property
    def captions(self) -> bool:
        return isinstance(self.config, CaptionerConfig)

    @property
    def amount(self) -> dict[str, int]:
        """What a step goes through."""
        return {"pictures": self.batch}

    def model(self, precision: str = "float32") -> Captioner | ImageEncoder:
        """With the initial weights that every engine is given."""
        return (Captioner if self.captions else ImageEncoder)(self.config, seed=0, precision=precision)

    def data(self, seed: int = 0) -> list[tuple[np.ndarray, ...]]:
        """BATCHES batches, drawn evenly: (ids, targets, images) of captions, (images, labels) of classes. ids, targets
        (batch, length) and labels (batch) are int64, images (batch, height, width, channels) uint8."""
        rng, vision = np.random.default_rng(seed), self.encoder
        images = partial(
            rng.integers, 0, 256, (self.batch, vision.height, vision.width, vision.channels), dtype=np.uint8
        )
        if not self.captions:
            return [(images(), rng.integers(0, vision.num_classes, self.batch)) for _ in range(BATCHES)]
        size = (2, self.batch, self.config.context_length)
        return [(*rng.integers(0, self.config.vocab_size, size), images()) for _ in range(BATCHES)]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "batch": self.batch, "kind": "pictures", "config": self.config.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PictureSetting:
        kind = CaptionerConfig if "decoder" in values["config"] else VisionConfig
        return cls(values["name"], kind.from_dict(values["config"]), values["batch"])

    def flops(self) -> Flops:
        """As :func:`loopos.bench.settings.step_flops`. No gradient of the pixels is wanted, so patches are projected
        twice instead of three times; of a picture's rows every pair sees each other, and in front of a caption they
        are rows of the decoder's blocks like its tokens."""
        vision, batch = self.encoder, self.batch
        rows, width = vision.rows, vision.d_model
        patches = rows - vision.class_token
        pixels = vision.patch_size**2 * vision.channels
        linear = vision.n_layer * rows * _block(width, width, vision.d_ff) + rows * self._projected()
        attention = vision.n_layer * 2 * rows * rows * width
        if self.captions:
            text = self._decoder_rows()
            linear, attention = linear + text[0], attention + text[1]
        else:
            linear += width * vision.num_classes
        return Flops(2 * batch * (3 * linear + 2 * patches * pixels * width), 2 * batch * 3 * attention)

    def _projected(self) -> int:
        return self.encoder.d_model * self.config.projected if self.captions else 0

    def _decoder_rows(self) -> tuple[int, int]:
        """Multiply-adds of one caption, forward: (of weights, of attention)."""
        decoder, tokens, seen = self.config.decoder, self.config.context_length, self.encoder.rows
        width, keys = decoder.d_model, decoder.n_kv_head * decoder.head_width
        prefix = seen if self.config.fusion == "prefix" else 0
        pairs = prefix * (prefix + tokens) + tokens * (tokens + 1) // 2
        linear = decoder.n_layer * (prefix + tokens) * _block(width, keys, decoder.d_ff)
        if not prefix:
            linear, pairs = linear + decoder.n_layer * tokens * 2 * width * width, pairs + tokens * seen
        return linear + tokens * width * decoder.vocab_size, decoder.n_layer * 2 * pairs * width


def _block(width: int, keys: int, hidden: int) -> int:
    """Numbers in the matrices of a block without a gate."""
    return width * (2 * width + 2 * keys) + 2 * width * hidden


PICTURES = {
    setting.name: setting
    for setting in (
        PictureSetting("tiny", CaptionerConfig.tiny(64, 16), 32),  # as `loopos caption` trains it on shapes
        PictureSetting("nano_8gb", CaptionerConfig.nano_8gb(), 8),
        PictureSetting("vit_ti16", VisionConfig.vit_ti16(), 8),
    )
}
_SMALL = VisionConfig(16, 4, 2, 2, 16)
SMALL = {  # smoke tests, whose times tell nothing of speed
    setting.name: setting
    for setting in (
        PictureSetting("small-captioner", CaptionerConfig(_SMALL, ModelConfig(17, 8, 2, 2, 16, activation="gelu")), 2),
        PictureSetting("small-vit", replace(_SMALL, class_token=True, pool="class", num_classes=5), 2),
    )
}


def named(names: str) -> list[PictureSetting]:
    """As of :func:`loopos.bench.settings.named`."""
    return named_of(names, PICTURES, SMALL)


def setting_from(values: dict[str, Any]) -> Setting | PictureSetting:
    """What ``to_dict`` of either wrote."""
    return (PictureSetting if values.get("kind") == "pictures" else Setting).from_dict(values)
