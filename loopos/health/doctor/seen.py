"""A captioner, or a classifier of pictures, as the checks of the doctor take a model: ids and targets go in, and the
pictures of one batch stand behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from loopos.config import ModelConfig
from loopos.vision.captioner import Captioner
from loopos.vision.config import CaptionerConfig, VisionConfig
from loopos.vision.encoder import ImageEncoder

from .patient import BATCH_FLOPS, WARM, Patient

SIDE, PATCH = 8, 4  # of the sibling's pictures
PICTURES = 4  # of its batches


class Seen:
    """whole: a Captioner; images: its pictures, one for each row of ids, from the front again where rows are more."""

    def __init__(self, whole: Any, images: np.ndarray):
        self.whole, self.images = whole, images

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    @property
    def config(self) -> ModelConfig:
        return self.whole.config.decoder

    def _inputs(self, ids: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.images[np.arange(len(ids)) % len(self.images)], ids

    def forward(self, ids: np.ndarray) -> np.ndarray:
        return self.whole.forward(*self._inputs(ids))

    def loss(self, ids: np.ndarray, targets: np.ndarray) -> float:
        return self.whole.loss(*self._inputs(ids), targets)

    def loss_and_grads(self, ids: np.ndarray, targets: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        return self.whole.loss_and_grads(*self._inputs(ids), targets)

    def shown(self, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Logits (B, T, V) of these pictures instead."""
        return self.whole.forward(images, ids)


class SeenClasses(Seen):
    """whole: an ImageEncoder with classes. ids (B, 1) are the numbers of pictures, targets (B, 1) their classes."""

    @property
    def config(self) -> ModelConfig:
        return replace(self.whole.config.blocks(), vocab_size=self.whole.config.num_classes)

    def _inputs(self, ids: np.ndarray) -> tuple[np.ndarray, ...]:
        return (self.images[ids[:, 0] % len(self.images)],)

    def forward(self, ids: np.ndarray) -> np.ndarray:
        return self.whole.logits(*self._inputs(ids))[:, None]

    def loss(self, ids: np.ndarray, targets: np.ndarray) -> float:
        return self.whole.loss(*self._inputs(ids), targets[:, 0])

    def loss_and_grads(self, ids: np.ndarray, targets: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        return self.whole.loss_and_grads(*self._inputs(ids), targets[:, 0])

    def shown(self, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
        return self.whole.logits(images)[:, None]


class Pairs:
    """A source of the run as (ids, targets)."""

    def __init__(self, source: Any, captions: bool):
        self._source, self._captions = source, captions
        self.steps_per_epoch = source.steps_per_epoch

    def batch(self, step: int, micro: int = 0) -> tuple[np.ndarray, np.ndarray]:
        first, targets = self._source.batch(step, micro)[:2]
        if self._captions:
            return first, targets
        return np.arange(len(targets))[:, None], np.asarray(targets)[:, None]

    def images(self) -> np.ndarray:
        return self._source.batch(0, 0)[2 if self._captions else 0]


class PicturePatient(Patient):
    """model: a Captioner, or an ImageEncoder with classes; source: of its run."""

    model: Seen

    def __init__(self, model: Captioner | ImageEncoder, source: Any, settings: Mapping[str, Any], quick: bool):
        captions = isinstance(model, Captioner)
        pairs = Pairs(source, captions)
        rows = model.vision.rows + (model.config.context_length if captions else 0)
        most = max(2, int(BATCH_FLOPS[quick] / (6 * rows * max(1, model.config.num_parameters()))))
        seen = (Seen if captions else SeenClasses)(model, pairs.images()[:most])
        super().__init__(seen, pairs, settings, None, quick)
        self._most = most

    def cut(self, ids: np.ndarray, targets: np.ndarray, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        return super().cut(ids[: self._most], targets[: self._most], tokens)

    def sibling(self, dtype: str = "float64", warm: bool = True, **changed: Any) -> Seen:
        config, kind = self.model.whole.config, type(self.model.whole)
        captions = isinstance(config, CaptionerConfig)
        small = _small(config.encoder if captions else config)
        if captions:
            decoder = replace(self.sibling_config, **changed)
            whole = kind(CaptionerConfig(small, decoder, config.fusion), seed=0, dtype=dtype)
        else:
            whole = kind(replace(small, **changed), seed=0, dtype=dtype)
        rng = np.random.default_rng(1)
        for view in whole.parameters().values():
            view += (WARM * warm * rng.standard_normal(view.shape)).astype(view.dtype)
        pictures = rng.integers(0, 256, (PICTURES, *small.image_size, small.channels)).astype(np.uint8)
        return type(self.model)(whole, pictures)

    def sibling_batch(self, rows: int = 3, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.model, SeenClasses):
            return np.arange(rows)[:, None], np.arange(rows)[:, None] % self.vocab
        return super().sibling_batch(rows, seed)


def _small(config: VisionConfig) -> VisionConfig:
    """An encoder of the same kind, of a few thousand weights."""
    heads = 2 if config.n_head > 1 else 1
    sizes = {"image_size": SIDE, "patch_size": PATCH, "n_layer": min(config.n_layer, 2), "n_head": heads}
    return replace(config, **sizes, d_model=16, d_ff=24, dropout=0.0)
