"""Pictures as loopos.train takes them: a set, a part of one, or batches made before."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from loopos import checks
from loopos.data.order import Order
from loopos.data.reading import fingerprint

from .batches import CaptionBatches, CaptionHeldOut
from .framing import checked_warp, warped
from .parts import Part, Pictures
from .vocabulary import TokenVocabulary, Vocabulary, WordVocabulary

FORMS = "a set of pictures with captions, a part of one, or CaptionBatches"


class Opened(NamedTuple):
    """train has batch(step, micro), steps_per_epoch and fingerprint(); eval yields batches, or is None; tokenizer: the
    vocabulary of captions."""

    train: Any
    eval: Any
    tokenizer: Any


class CaptionSource:
    """Batches of captions in the order of a run: (ids, targets, images)."""

    def __init__(self, batches: CaptionBatches):
        self.batches = batches
        self.batch_size, self.seq_len = batches.batch_size, batches.max_tokens
        self.steps_per_epoch = batches.steps_per_epoch
        if batches.last == "full":  # each has as many rows
            self.part = self._part

    def _part(self, step: int, micro: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows [first, last) of a batch; no other pictures are decoded."""
        images, ids, targets = self.batches.part(step, micro, first, last)
        return ids, targets, images

    def batch(self, step: int, micro: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, ids, targets = self.batches.batch(step, micro)
        return ids, targets, images

    def origin(self, step: int, micro: int, row: int) -> str:
        """Which picture a row is, and its caption, in words."""
        pictures = self.batches.pictures(step, micro)
        if row >= len(pictures):
            return "not there"  # the last batch of an epoch may be smaller
        name, caption = pictures[row]
        return f"picture {name} with the caption {caption!r}"

    def fingerprint(self) -> dict[str, Any]:
        return self.batches.fingerprint()


class HeldOutCaptions:
    """Batches to evaluate on, in the order of a run."""

    def __init__(self, batches: CaptionHeldOut):
        self.batches, self.share = batches, batches.share

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for images, ids, targets in self.batches:
            yield ids, targets, images


def vocabulary_of(data: Part | Pictures) -> WordVocabulary:
    """Of all words of the captions that are trained on."""
    part = data if isinstance(data, Part) else data.part("train")
    return WordVocabulary.of(caption for index in range(len(part)) for caption in part.captions(index))


def held_out_part(pictures: Pictures, name: str = "valid") -> Part:
    """Of the two parts that are held out the one of that name, or the other one where it has no picture: a training
    evaluates on ``valid``, and ``test`` is for its end. ValueError where both are empty."""
    for each in (name, *(other for other in ("valid", "test") if other != name)):
        if each in pictures.parts and len(part := pictures.part(each)):
            return part
    raise ValueError(
        f"{pictures!r}: of its {len(pictures)} pictures none is held out; a training needs some that it does not learn "
        "from: give it more pictures, or say which are of part valid or test"
    )


def open_captions(
    config: Any,
    data: Any,
    eval_data: Any,
    vocabulary: Any = None,
    *,
    batch_size: int,
    grad_accum: int,
    seed: int,
    seq_len: int | None,
    eval_tokens: int | None,
) -> Opened:
    """The data arguments of train for a captioner that ``config`` describes. A set of pictures brings what is held out
    along; vocabulary: a vocabulary, a tokenizer, or None: the words of the captions that are trained on.

    TypeError for what is none of them; ValueError for captions that do not fit the model."""
    if isinstance(data, Pictures):
        eval_data = held_out_part(data) if eval_data is None else eval_data
        data = data.part("train")
    if isinstance(data, Part):
        words = vocabulary_of(data) if vocabulary is None else _vocabulary(vocabulary)
        longest = config.context_length if seq_len is None else seq_len
        shape = {"batch_size": batch_size, "image_size": _side(config)}
        batches = CaptionBatches(data, words, grad_accum=grad_accum, seed=seed, **shape)
        if batches.max_tokens > longest:
            batches = CaptionBatches(data, words, grad_accum=grad_accum, seed=seed, max_tokens=longest, **shape)
            warnings.warn(
                f"train: {batches.cut} captions have more than {longest} tokens and are learned without their end; "
                "give the model a larger context_length",
                stacklevel=4,
            )
        data = batches
    if not isinstance(data, CaptionBatches):
        raise TypeError(f"train: data of a captioner must be {FORMS}, got {checks.shown(data)}")
    _check_fit(config, data, grad_accum)
    held_out = None if eval_data is None else _held_out(eval_data, data, eval_tokens)
    return Opened(CaptionSource(data), held_out, data.rows.vocabulary)


def _vocabulary(given: Any) -> Vocabulary:
    return given if isinstance(given, WordVocabulary | TokenVocabulary) else TokenVocabulary(given)


def _side(config: Any) -> int:
    encoder = config.encoder
    if encoder.height != encoder.width:
        raise ValueError(
            f"train: pictures are made squares, and this encoder's are {encoder.height} x {encoder.width}; give it one "
            "number as image_size, or an object of your own as data"
        )
    return encoder.height


def _check_fit(config: Any, batches: CaptionBatches, grad_accum: int) -> None:
    size = batches.rows.vocabulary.vocab_size
    if size > config.vocab_size:
        raise ValueError(f"train: the vocabulary has {size} ids, and the model's vocab_size is {config.vocab_size}")
    if batches.max_tokens > config.context_length:
        raise ValueError(
            f"train: captions have up to {batches.max_tokens} tokens, and the model's context_length is "
            f"{config.context_length}; give the batches max_tokens, or the model a larger context_length"
        )
    if batches.grad_accum != grad_accum:
        raise ValueError(f"train: grad_accum is {grad_accum}, and that of the CaptionBatches {batches.grad_accum}")


def _held_out(given: Any, train: CaptionBatches, eval_tokens: int | None) -> HeldOutCaptions:
    given = held_out_part(given) if isinstance(given, Pictures) else given
    if isinstance(given, Part):
        rows = train.rows
        about = {"image_size": rows.image_size, "max_tokens": rows.max_tokens, "augment": rows.augment}
        most = None if eval_tokens is None else min(len(given), max(1, eval_tokens // rows.max_tokens))
        given = CaptionHeldOut(given, rows.vocabulary, batch_size=train.batch_size, pictures=most, **about)
    if not isinstance(given, CaptionHeldOut):
        raise TypeError(
            "train: eval_data of a captioner must be a set of pictures with captions, a part of one, or "
            f"CaptionHeldOut, got {checks.shown(given)}"
        )
    return HeldOutCaptions(given)


class LabelledBatches:
    """Pictures and their classes as batches (images, labels). Each epoch is every picture once, in another order;
    batches are cut from the epochs laid end to end. warp: as of an Augment, drawn for each picture and epoch."""

    seq_len = 1  # a class a picture

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        grad_accum: int = 1,
        seed: int = 1337,
        warp: float = 0.0,
    ):
        """images (N, H, W, C), where warp is not 0 squares of uint8; labels (N,) int."""
        self.images, self.labels = images, labels
        self.batch_size, self.grad_accum, self._seed, self._warp = batch_size, grad_accum, seed, warp
        self._order = Order(len(labels), seed)

    @property
    def steps_per_epoch(self) -> int:
        """ceil(pictures / (batch_size grad_accum))."""
        return -(-len(self.labels) // (self.batch_size * self.grad_accum))

    def batch(self, step: int, micro: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Micro-batch ``micro`` of update ``step``, both from 0."""
        return self.part(step, micro, 0, self.batch_size)

    def part(self, step: int, micro: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [first, last) of that batch; no other pictures are looked at."""
        number = step * self.grad_accum + micro
        rows = self._order.batch(number, self.batch_size)[first:last]
        images = self.images[rows]
        if self._warp and len(rows):
            begin = number * self.batch_size
            epochs = [at // len(self.labels) for at in range(begin + first, begin + last)]
            images = warped(images, self._warp, [(self._seed, int(r), e) for r, e in zip(rows, epochs, strict=True)])
        return images, self.labels[rows]

    def fingerprint(self) -> dict[str, Any]:
        about = {"kind": "pictures", "shape": list(self.images.shape)} | ({"warp": self._warp} if self._warp else {})
        return fingerprint(self.labels) | about

    def digest(self) -> str:
        """SHA-256 of all pictures, which processes of one run compare."""
        return hashlib.sha256(np.ascontiguousarray(self.images)).hexdigest()


class HeldOutPictures:
    """Pictures and classes to evaluate on, in order. The last batch may be smaller."""

    share = 1.0

    def __init__(self, images: np.ndarray, labels: np.ndarray, batch_size: int):
        self.images, self.labels, self.batch_size = images, labels, batch_size

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return map(self.one, range(len(self)))

    def one(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch ``number``, from 0."""
        rows = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return self.images[rows], self.labels[rows]


def open_labelled(
    config: Any, data: Any, eval_data: Any, batch_size: int, grad_accum: int = 1, seed: int = 1337
) -> Opened:
    """The data arguments of train for a classifier that ``config`` describes: a set of pictures with labels, a part of
    one, or (images, labels). A set's pictures are warped as its ``augment`` says; its crop and flip are for captions.
    TypeError for anything else; ValueError for shapes and labels that do not fit."""
    if isinstance(data, Pictures) and hasattr(data, "labels"):
        eval_data = held_out_part(data) if eval_data is None else eval_data
        data = data.part("train")
    sizes = {"grad_accum": checks.count("train", "grad_accum", grad_accum), "seed": seed}
    batch_size = checks.count("train", "batch_size", batch_size)
    sizes["warp"] = checked_warp("train", data.pictures.augment) if isinstance(data, Part) else 0.0
    train = LabelledBatches(*_arrays(config, data, "data"), batch_size=batch_size, **sizes)
    held_out = None if eval_data is None else HeldOutPictures(*_arrays(config, eval_data, "eval_data"), batch_size)
    return Opened(train, held_out, None)


def _arrays(config: Any, given: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    given = held_out_part(given) if isinstance(given, Pictures) else given
    if isinstance(given, Part) and hasattr(given.pictures, "labels"):
        given = given.images(), given.labels
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(
            f"train: {name} of a classifier must be a set of pictures with labels, a part of one, or (images, labels), "
            f"got {checks.shown(given)}"
        )
    images, labels = np.asarray(given[0]), np.asarray(given[1])
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images) or not len(labels):
        raise ValueError(
            f"train: labels of {name} must be as many ints as there are pictures ({len(images)}, at least 1), got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= config.num_classes:
        raise ValueError(
            f"train: labels of {name} must be from 0 to {config.num_classes - 1}, got {labels.min()} to {labels.max()}"
        )
    return images, labels.astype(np.int64)
