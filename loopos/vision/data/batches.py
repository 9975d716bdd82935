"""Batches of pictures and captions. A batch is a pure function of (step, micro), so that a resume begins anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from loopos import checks
from loopos.data.held_out import spread
from loopos.data.order import Order, permutation

from . import draws
from .ahead import Ahead
from .framing import Augment
from .parts import Part
from .rows import CaptionBatch, Rows
from .vocabulary import Vocabulary

LAST = ("full", "short")


class CaptionBatches:
    """Training batches of a part of a set of pictures.

    vocabulary   what captions are read by
    batch_size   pictures of a micro-batch; grad_accum of those are an update
    image_size   side of what is seen; None: that of the set
    max_tokens   T; None: the longest caption and its beginning. What is longer is cut: ``cut`` counts them
    augment      what is varied; None: as the set has it (folders: crop and flip; digits: warp; shapes: nothing)
    last         "full": batches run on across the border of an epoch, all of one size; "short": the last batch of an
                 epoch has what is left
    dtype        of the images: "uint8", or "float32" from 0 to 1
    ahead        batches that threads make while one is used; 0: none. They need memory, and change no bit

    An epoch is every picture once, in an order by (seed, epoch), with one of its captions: in as many epochs as a
    picture has captions each of them comes once. Pictures that cannot be decoded are left out."""

    def __init__(
        self,
        part: Part,
        vocabulary: Vocabulary,
        *,
        batch_size: int = 8,
        grad_accum: int = 1,
        image_size: int | None = None,
        max_tokens: int | None = None,
        seed: int = 1337,
        augment: Augment | None = None,
        last: str = "full",
        dtype: str = "uint8",
        ahead: int = 2,
    ):
        where = "CaptionBatches"
        self.batch_size = checks.count(where, "batch_size", batch_size)
        self.grad_accum = checks.count(where, "grad_accum", grad_accum)
        self.seed = checks.integer(where, "seed", seed, low=0, high=2**64 - 1)
        self.last = checks.choice(where, "last", last, LAST)
        if last == "short" and grad_accum != 1:
            raise ValueError(f"{where}: last='short' leaves micro-batches empty with grad_accum {grad_accum}; use 1")
        self.rows = Rows(part, vocabulary, image_size=image_size, max_tokens=max_tokens, augment=augment, dtype=dtype)
        self._order = Order(len(self.rows), self.seed)
        ahead = checks.integer(where, "ahead", ahead, low=0, high=64)
        self._ahead = Ahead(self._make, ahead, part.pictures.keeping.workers)
        self._part: tuple[tuple[int, int], Ahead] | None = None  # rows that were asked for alone

    @property
    def steps_per_epoch(self) -> int:
        """ceil(pictures / (batch_size grad_accum))."""
        return -(-len(self.rows) // (self.batch_size * self.grad_accum))

    def __len__(self) -> int:
        return self.steps_per_epoch

    @property
    def max_tokens(self) -> int:
        """T of every batch."""
        return self.rows.max_tokens

    @property
    def cut(self) -> int:
        """Captions that are longer than ``max_tokens`` allows."""
        return self.rows.cut

    def batch(self, step: int, micro: int = 0) -> CaptionBatch:
        """Micro-batch ``micro`` of update ``step``, both from 0."""
        if step < 0 or not 0 <= micro < self.grad_accum:
            raise ValueError(
                f"CaptionBatches.batch: expected step >= 0 and micro from 0 to {self.grad_accum - 1}, "
                f"got step {step}, micro {micro}"
            )
        return self._ahead.take(step * self.grad_accum + micro)

    def part(self, step: int, micro: int, first: int, last: int) -> CaptionBatch:
        """Rows [first, last) of that batch, of batches of one size; no other pictures are decoded. Who asks for one
        part asks for the same of the next batches."""
        if self.last != "full":
            raise ValueError(f"CaptionBatches.part: batches must be of one size, got last={self.last!r}")
        if self._part is None or self._part[0] != (first, last):
            self.close()
            make = partial(self._make, rows=slice(first, last))
            self._part = (first, last), Ahead(make, self._ahead.count, self._ahead.workers)
        return self._part[1].take(step * self.grad_accum + micro)

    def pictures(self, step: int, micro: int = 0) -> list[tuple[str, str]]:
        """The name and the caption of each picture of a batch."""
        chosen, _ = self._chosen(step * self.grad_accum + micro)
        part = self.rows.part
        return [(part.pictures.name(int(self.rows.numbers[p])), self.rows.captions[p][c]) for p, c in chosen]

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint keeps to know the data again."""
        return self.rows.part.fingerprint() | {
            "sound": len(self.rows),
            "seen": [self.rows.image_size, self.max_tokens, *self.rows.augment.told(), self.last],
            "vocab_size": self.rows.vocabulary.vocab_size,
        }

    def close(self) -> None:
        """End the threads that work ahead; a later ``batch`` starts them again."""
        self._ahead.close()
        if self._part is not None:
            self._part[1].close()

    def _make(self, number: int, rows: slice = slice(None)) -> CaptionBatch:
        chosen, epochs = self._chosen(number)
        return self.rows.make(chosen[rows], (self.seed, epochs[rows]))

    def _chosen(self, number: int) -> tuple[list[tuple[int, int]], list[int]]:
        """(picture, caption) of each row, and its epoch."""
        count = len(self.rows)
        if self.last == "short":
            epoch, at = divmod(number, self.steps_per_epoch)
            first = epoch * count + at * self.batch_size
            size = min(self.batch_size, (epoch + 1) * count - first)
            pictures = permutation(count, self.seed, epoch)[first - epoch * count :][:size]
        else:
            first, size = number * self.batch_size, self.batch_size
            pictures = self._order.batch(number, size)
        epochs = [(first + row) // count for row in range(size)]
        return [(int(p), self._caption(int(p), epoch)) for p, epoch in zip(pictures, epochs, strict=True)], epochs

    def _caption(self, picture: int, epoch: int) -> int:
        count = len(self.rows.captions[picture])
        turn, at = divmod(epoch, count)
        number = int(self.rows.numbers[picture])
        return int(np.argsort(draws.raw(count, draws.CAPTION, self.seed, number, turn), kind="stable")[at])


class CaptionHeldOut:
    """Batches to evaluate on: each picture once, in order, its middle, with its first caption.

    every: with each of its captions instead. pictures: as many of them, evenly spread; None: all. The last batch may be
    smaller. Other arguments as :class:`CaptionBatches`; augment is that of the training, so that pictures are seen at
    the same scale."""

    def __init__(
        self,
        part: Part,
        vocabulary: Vocabulary,
        *,
        batch_size: int = 8,
        image_size: int | None = None,
        max_tokens: int | None = None,
        augment: Augment | None = None,
        every: bool = False,
        pictures: int | None = None,
        dtype: str = "uint8",
    ):
        self.batch_size = checks.count("CaptionHeldOut", "batch_size", batch_size)
        self.rows = Rows(part, vocabulary, image_size=image_size, max_tokens=max_tokens, augment=augment, dtype=dtype)
        wanted = len(self.rows) if pictures is None else checks.count("CaptionHeldOut", "pictures", pictures)
        chosen = spread(len(self.rows), wanted)
        self.share = len(chosen) / len(self.rows)  # of the pictures, that an evaluation goes through
        self._chosen = [(p, c) for p in chosen for c in range(len(self.rows.captions[p]) if every else 1)]
        self.numbers = self.rows.numbers[[p for p, _ in self._chosen]]  # in the set, of each row

    def __len__(self) -> int:
        """Batches."""
        return -(-len(self._chosen) // self.batch_size)

    def __iter__(self) -> Iterator[CaptionBatch]:
        for first in range(0, len(self._chosen), self.batch_size):
            yield self.rows.make(self._chosen[first : first + self.batch_size])
