"""Rows of a batch: a picture, the ids of its caption, and what is learned of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loopos import checks
from loopos.data.held_out import IGNORE

from .framing import Augment, centre, checked_warp, kept_side, varied, warped
from .parts import Part
from .vocabulary import Vocabulary


class CaptionBatch(NamedTuple):
    """images (B, H, W, 3): uint8, or float32 from 0 to 1. ids (B, T) int64: begin, then the caption; what fills a row
    up is padding. targets (B, T): what follows each of ids, the end last; -100 where nothing is learned."""

    images: np.ndarray
    ids: np.ndarray
    targets: np.ndarray


class Rows:
    """The sound pictures of a part as squares, and their captions as ids."""

    def __init__(
        self,
        part: Part,
        vocabulary: Vocabulary,
        *,
        image_size: int | None = None,
        max_tokens: int | None = None,
        augment: Augment | None = None,
        dtype: str = "uint8",
    ):
        where, pictures = type(self).__name__, part.pictures
        self.part, self.vocabulary = part, vocabulary
        size = pictures.image_size if image_size is None else image_size
        self.image_size = checks.integer(where, "image_size", size, low=1, high=4096)
        self.augment = pictures.augment if augment is None else augment
        checked_warp(where, self.augment)
        if self.augment.flip and not pictures.mirrored:
            raise ValueError(f"{where}: {pictures!r} has pictures of which a mirrored one is another; pass flip=False")
        self.dtype = checks.choice(where, "dtype", dtype, ("uint8", "float32"))
        self._kept = pictures.kept(kept_side(self.image_size, self.augment))
        self.numbers = np.array([n for n in part.numbers if int(n) not in self._kept.broken], np.int64)
        if not len(self.numbers):
            why = "has no picture that can be decoded" if len(part) else "has no picture"
            raise ValueError(f"{where}: {part!r} {why}")
        self.captions = [pictures.captions(int(number)) for number in self.numbers]
        self._tokens = [[np.array(vocabulary.encode(c), np.int64) for c in each] for each in self.captions]
        longest = 1 + max(len(tokens) for each in self._tokens for tokens in each)
        self.max_tokens = longest if max_tokens is None else checks.count(where, "max_tokens", max_tokens)
        self.cut = sum(len(tokens) + 1 > self.max_tokens for each in self._tokens for tokens in each)
        unknown = [t == vocabulary.unknown for each in self._tokens for t in each] if vocabulary.unknown else []
        self.unknown = int(sum(each.sum() for each in unknown))

    def __len__(self) -> int:
        return len(self.numbers)

    def make(self, rows: Sequence[tuple[int, int]], varied_by: tuple[int, Sequence[int]] | None = None) -> CaptionBatch:
        """A batch of (picture, caption of it) each. varied_by: (seed, the epoch of each row), by which the pictures
        are varied; None: their middles."""
        count, size = len(rows), self.image_size
        images = np.empty((count, size, size, 3), np.uint8)
        ids = np.full((count, self.max_tokens), self.vocabulary.pad, np.int64)
        targets = np.full_like(ids, IGNORE)
        places = []
        for row, (picture, caption) in enumerate(rows):
            number = int(self.numbers[picture])
            square = self._kept.square(number)
            if varied_by is None:
                images[row] = centre(square, size)
            else:
                places.append((varied_by[0], number, int(varied_by[1][row])))
                images[row] = varied(square, size, self.augment, self.captions[picture][caption], places[row])
            self._write(ids[row], targets[row], self._tokens[picture][caption])
        if places and self.augment.warp:
            images = warped(images, self.augment.warp, places)
        if self.dtype == "float32":
            return CaptionBatch(images.astype(np.float32) / np.float32(255), ids, targets)
        return CaptionBatch(images, ids, targets)

    def _write(self, ids: np.ndarray, targets: np.ndarray, tokens: np.ndarray) -> None:
        """One row of each. A caption that is too long has no end: nothing says that it ended."""
        shown = tokens[: len(ids) - 1]
        ids[0], ids[1 : 1 + len(shown)] = self.vocabulary.bos, shown
        follows = np.append(tokens, self.vocabulary.eos)[: len(ids)]
        targets[: len(follows)] = np.where(follows == self.vocabulary.unknown, IGNORE, follows)
