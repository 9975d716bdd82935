"""What is a captioner's own in loopos.train, and a classifier's of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from loopos import checks
from loopos.data.batches import IGNORE, Batch, check_batch
from loopos.data.sources import Sources
from loopos.vision.captioner import Captioner
from loopos.vision.config import CaptionerConfig, VisionConfig
from loopos.vision.data.sources import open_captions, open_labelled
from loopos.vision.encoder import ImageEncoder

from .forecast import refuse_unfitting
from .language import Language
from .objectives import CrossEntropy
from .settings import TrainSettings


class Captions(CrossEntropy):
    """Next-token cross-entropy of captions. The third of a batch are the pictures that they are of."""

    def __init__(self, settings: TrainSettings, model: Any):
        super().__init__(settings)
        self._pixels = model.pixels

    def inputs(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        ids, targets, images = batch
        return ids, targets, {"images": self._pixels(images)}


class PictureClasses(CrossEntropy):
    """Cross-entropy of a picture's class. A batch is (images, labels). Measured of what is held out: the share of
    pictures that are given their class."""

    def __init__(self, settings: TrainSettings, model: Any):
        super().__init__(settings)
        self._pixels = model.pixels

    def inputs(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        return self._pixels(batch[0]), batch[1], {}

    def positions(self, batch: Batch) -> int:
        return len(batch[1])

    def score(self, core: Any, batch: Batch) -> tuple[float, int, dict[str, float]]:
        pixels, labels, _ = self.inputs(batch)
        total, count = core.loss(pixels, labels, IGNORE)
        right = core.logits(pixels).argmax(axis=-1) == labels
        return total, count, {"pictures": len(labels), "accuracy": float(right.sum())}


class _OfPictures(Language):
    def adapter(self, model: Any, asked: Any) -> None:
        if asked is not None:
            raise ValueError(
                f"train: adapter= is for a language Model, got {checks.shown(model)}; of pictures a part can be "
                "trained instead: model.freeze('encoder.*'), or whatever else is to stay"
            )

    def _check(self, settings: TrainSettings) -> None:
        if settings.task != "lm" or settings.teacher is not None:
            raise ValueError(
                "train: task and teacher are for a language Model; of pictures leave them out, got "
                f"task={settings.task!r}, teacher={settings.teacher!r}"
            )

    def refuse_oversized(self, model: Any, source: Any, settings: TrainSettings) -> None:
        """``refuse_unfitting`` asks the model's own plan."""

    def refuse_unfitting(
        self, model: Any, source: Any, settings: TrainSettings, teacher: Any, ranks: Any = None
    ) -> None:
        refuse_unfitting(model, replace(settings, batch_size=source.batch_size), source.seq_len, ranks=ranks)

    def prepare(self, model: Any, config: Any, adapter: Any, settings: TrainSettings, undo: ExitStack) -> None:
        """Nothing is put on."""

    def reads_with(self, model: Any, tokenizer: Any) -> None:
        """It reads no text."""

    def stored(self, model: Any) -> dict[str, Any]:
        return {}

    def built(self, config: Any, dtype: str, kept_as: str | None, stored: Mapping[str, Any]) -> Any:
        return self.model(config, dtype=dtype)


class Captioning(_OfPictures):
    model, config = Captioner, CaptionerConfig
    parts = ("ids", "targets", "images")

    def with_dropout(self, config: Any, dropout: float) -> Any:
        encoder, decoder = (replace(each, dropout=dropout) for each in (config.encoder, config.decoder))
        return replace(config, encoder=encoder, decoder=decoder)

    def check_batch(self, config: Any, *parts: Any, where: str) -> Batch:
        ids, targets, images = parts
        pair = check_batch(ids, targets, config.vocab_size, config.context_length, where)
        if images is None or len(images) != len(pair[0]):
            raise ValueError(f"{where}: expected a picture for each of {len(pair[0])} rows")
        return pair[0], pair[1], images

    def open(
        self,
        model: Any,
        data: Any,
        eval_data: Any,
        tokenizer: Any,
        settings: TrainSettings,
        progress: bool,
        ranks: Any = None,
    ) -> tuple[Sources, Any]:
        self._check(settings)
        config = getattr(model, "config", model)
        own = getattr(model, "vocabulary", None)
        return open_captions(
            config, data, eval_data, own if tokenizer is None else tokenizer, **_shape(settings)
        ), config

    def objective(self, model: Any, teacher: Any, settings: TrainSettings, source: Any) -> CrossEntropy:
        return Captions(settings, model)

    def reads_with(self, model: Any, tokenizer: Any) -> None:
        model.vocabulary = tokenizer


class Classifying(_OfPictures):
    model, config = ImageEncoder, VisionConfig
    parts = ("images", "labels")

    def check_batch(self, config: Any, *parts: Any, where: str) -> Batch:
        images, labels = parts
        if len(images) != len(labels):
            raise ValueError(f"{where}: expected as many labels as pictures")
        return images, labels

    def length(self, config: Any) -> int:
        return 1

    def open(
        self,
        model: Any,
        data: Any,
        eval_data: Any,
        tokenizer: Any,
        settings: TrainSettings,
        progress: bool,
        ranks: Any = None,
    ) -> tuple[Sources, Any]:
        self._check(settings)
        config = getattr(model, "config", model)
        if not config.num_classes:
            raise ValueError("train: an ImageEncoder alone is trained as a classifier, and this one has num_classes 0")
        shape = _shape(settings)
        return open_labelled(config, data, eval_data, shape["batch_size"], shape["grad_accum"], shape["seed"]), config

    def objective(self, model: Any, teacher: Any, settings: TrainSettings, source: Any) -> CrossEntropy:
        return PictureClasses(settings, model)


def _shape(settings: TrainSettings) -> dict[str, Any]:
    names = ("batch_size", "grad_accum", "seed", "seq_len", "eval_tokens")
    return {name: getattr(settings, name) for name in names}
