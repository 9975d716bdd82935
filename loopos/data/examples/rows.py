"""Rows of examples: which tokens a batch has, what of them is learned, and from which lines they came.

An example of n tokens fills n - 1 places: each token but the last is shown, and each but the first is a target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from loopos.data.held_out import IGNORE, spread
from loopos.data.order import Order

from .lines import bounds
from .packing import pack
from .records import unit
from .store import Counts, Store

Batch = tuple[np.ndarray, ...]  # (ids, targets), or (ids, targets, documents) of packed rows
_WIDTH = 32  # rows are filled up to a multiple of it, so that batches have few different sizes
_NAMED = 5  # lines of a row that are named


class Examples:
    """The examples of several files as one list, each cut to its first ``seq_len`` tokens. part: which share of them,
    from where to where; mask_prompt: whether what is only read is left out of what is learned; end: the id that ends a
    text; name: how errors call them."""

    def __init__(
        self,
        stores: list[Store],
        *,
        seq_len: int,
        mask_prompt: bool = True,
        part: tuple[float, float] = (0.0, 1.0),
        end: int | None = None,
        name: str = "data",
    ):
        self.stores, self.seq_len, self.mask_prompt, self.name = stores, seq_len, mask_prompt, name
        self._firsts = np.concatenate([[0], np.cumsum([len(store) for store in stores])]).astype(np.int64)
        total = int(self._firsts[-1])
        self.first, self.last = (round(share * total) for share in part)
        self._end = end

    def __len__(self) -> int:
        return self.last - self.first

    def _of_all(self, name: str) -> np.ndarray:
        parts = [getattr(store, name) for store in self.stores]
        return np.concatenate(parts)[self.first : self.last] if parts else np.zeros(0, np.int64)

    @cached_property
    def causes(self) -> np.ndarray:
        """(n,): why nothing of an example is learned, before it is cut; see encoding."""
        return self._of_all("causes")

    @cached_property
    def forms(self) -> np.ndarray:
        return self._of_all("forms")

    @cached_property
    def sizes(self) -> np.ndarray:
        """(n,): tokens before they are cut."""
        parts = [np.diff(store.starts) for store in self.stores] or [np.zeros(0, np.int64)]
        return np.concatenate(parts)[self.first : self.last]

    @cached_property
    def counts(self) -> Counts:
        """Of each example as far as it is used."""
        return self._used([store.counts(self.seq_len, self._end) for store in self.stores])

    def count(self, ranks: Any) -> None:
        """Finds ``counts`` in all of several processes, each of which looks at its part of the tokens."""
        shares = [bounds(len(store), (ranks.rank, ranks.size)) for store in self.stores]
        own = [store.counts(self.seq_len, self._end, *share) for store, share in zip(self.stores, shares, strict=True)]
        parts = list(zip(*ranks.gather(own), strict=True))
        self.counts = self._used([Counts(*map(np.concatenate, zip(*each, strict=True))) for each in parts])

    def _used(self, counted: list[Counts]) -> Counts:
        parts = counted or [Counts.none()]
        tokens, learned, predicted, ended = (
            np.concatenate(column)[self.first : self.last] for column in zip(*parts, strict=True)
        )
        if not self.mask_prompt:
            learned, predicted = tokens, np.maximum(tokens - 1, 0)
        return Counts(tokens, learned, predicted, ended)

    def tokens(self, example: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, which of them are learned), both (n,), of an example as far as it is used."""
        store, within = self._where(example)
        coded = self.stores[store].tokens(within, self.seq_len).astype(np.int64)
        learned = coded >= 0
        return np.where(learned, coded, ~coded), learned if self.mask_prompt else np.ones(len(coded), bool)

    def _where(self, example: int) -> tuple[int, int]:
        at = example + self.first
        store = int(np.searchsorted(self._firsts, at, side="right")) - 1
        return store, at - int(self._firsts[store])

    def check_ids(self, vocab_size: int, ranks: Any = None) -> None:
        """IndexError when an id of these files is not one of a vocabulary of that size. ranks: the processes that look
        for it, each in its part of the tokens."""
        shares = [(0, len(store)) for store in self.stores]
        if ranks is not None:
            shares = [bounds(last, (ranks.rank, ranks.size)) for _, last in shares]
        own = [store.highest(*share) for store, share in zip(self.stores, shares, strict=True)]
        found = [own] if ranks is None else ranks.gather(own)
        for first, *parts in zip(self._firsts, *found, strict=False):
            highest, example = max(parts, key=lambda part: part[0])
            if highest >= vocab_size:
                raise IndexError(
                    f"{self.name}: id {highest} of {self.place(int(first) + example - self.first)} is outside "
                    f"0..{vocab_size - 1}; vocab_size is {vocab_size}: is it the tokenizer of this model?"
                )

    def number(self, example: int) -> int:
        """Its line, row, or place in a list."""
        store, within = self._where(example)
        return int(self.stores[store].numbers[within])

    def place(self, example: int) -> str:
        """In words: "line 12 of data.jsonl"."""
        store, _ = self._where(example)
        path, number = self.stores[store].path, self.number(example)
        return f"record {number}" if path is None else f"{unit(path)} {number} of {path.name}"

    def digest(self) -> str:
        """Of the content of all files, and of the part of them."""
        digests = "\0".join(store.digest for store in self.stores)
        return hashlib.sha256(f"{digests}\0{self.first}\0{self.last}".encode()).hexdigest()


def _rounded(places: int, most: int) -> int:
    return min(most, -(-places // _WIDTH) * _WIDTH)


class _Rows:
    """Examples with something to learn, laid out in rows: several in one of seq_len where they are packed, else one.
    Rows are no wider than the fullest of them (packed), or of the batch, needs."""

    def __init__(self, examples: Examples, packed: bool):
        self.examples, self.packed = examples, packed
        self.used = np.flatnonzero(examples.counts.predicted > 0)
        places = examples.counts.tokens[self.used] - 1
        if packed:
            order, self._starts = pack(places, min(examples.seq_len, int(places.sum())))
            self.used = self.used[order]
            places = np.add.reduceat(places[order], self._starts[:-1]) if len(order) else places
        else:
            self._starts = np.arange(len(self.used) + 1)
        self.width = _rounded(int(places.max(initial=0)), examples.seq_len)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def of(self, row: int) -> np.ndarray:
        """The examples in a row."""
        return self.used[self._starts[row] : self._starts[row + 1]]

    def batch(self, rows: Any) -> Batch:
        """(ids, targets), int64 (rows, T), with documents of the same shape where rows are packed: 0, 1, ... along each
        row, and one number more for the places that are left. What is left has targets of -100."""
        return self.part(rows, 0, len(rows))

    def part(self, rows: Any, first: int, last: int) -> Batch:
        """[first, last) of the batch of these rows, as wide as the whole is; no other tokens are read."""
        if self.packed:
            width = self.width
        else:
            longest = max(int(self.examples.counts.tokens[self.of(int(row))[0]]) - 1 for row in rows)
            width = _rounded(longest, self.examples.seq_len)
        held = [self.of(int(row)) for row in rows[first:last]]
        ids = np.zeros((len(held), width), np.int64)
        targets = np.full((len(held), width), IGNORE, np.int64)
        documents = np.zeros((len(held), width), np.int64)
        for row, examples in enumerate(held):
            at = 0
            for document, example in enumerate(examples):
                tokens, learned = self.examples.tokens(int(example))
                stop = at + len(tokens) - 1
                ids[row, at:stop] = tokens[:-1]
                targets[row, at:stop] = np.where(learned[1:], tokens[1:], IGNORE)
                documents[row, at:stop] = document
                at = stop
            documents[row, at:] = len(examples)
        return (ids, targets, documents) if self.packed else (ids, targets)

    def origin(self, row: int) -> str:
        """Which lines a row is made of, in words."""
        held = self.of(row)
        more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
        return ", ".join(self.examples.place(int(example)) for example in held[:_NAMED]) + more


class ExampleRows:
    """Training batches of examples. Each epoch is every row once, shuffled; a batch is a function of (step, micro)."""

    def __init__(
        self,
        examples: Examples,
        *,
        packed: bool,
        batch_size: int,
        grad_accum: int = 1,
        seed: int = 1337,
        audit: Any = None,
    ):
        """audit: the LabelAudit of the examples, where one was made. No example with anything to learn: ValueError."""
        self.examples, self.batch_size, self.grad_accum, self.audit = examples, batch_size, grad_accum, audit
        self._rows = _Rows(examples, packed)
        if len(self._rows) == 0:
            raise ValueError(f"{examples.name}: no example has anything to learn")
        self._order = Order(len(self._rows), seed)

    @property
    def seq_len(self) -> int:
        """Places of the widest row."""
        return self._rows.width

    @property
    def rows(self) -> int:
        """Of one epoch."""
        return len(self._rows)

    @property
    def steps_per_epoch(self) -> int:
        """ceil(rows / (batch_size grad_accum))."""
        return -(-self.rows // (self.batch_size * self.grad_accum))

    def _chosen(self, step: int, micro: int) -> np.ndarray:
        if step < 0 or not 0 <= micro < self.grad_accum:
            raise ValueError(
                f"ExampleRows.batch: expected step >= 0 and micro from 0 to {self.grad_accum - 1}, got step {step}, "
                f"micro {micro}"
            )
        return self._order.batch(step * self.grad_accum + micro, self.batch_size)

    def batch(self, step: int, micro: int = 0) -> Batch:
        """(ids, targets) or, of packed rows, (ids, targets, documents), int64 (batch_size, T), of micro-batch ``micro``
        of update ``step``, both from 0."""
        return self._rows.batch(self._chosen(step, micro))

    def part(self, step: int, micro: int, first: int, last: int) -> Batch:
        """Rows [first, last) of that batch; no other tokens are read."""
        return self._rows.part(self._chosen(step, micro), first, last)

    def origin(self, step: int, micro: int, row: int) -> str:
        """Which lines row ``row`` of that batch is made of, in words."""
        return self._rows.origin(int(self._chosen(step, micro)[row]))

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint keeps to know the data again."""
        about = {"kind": "examples", "length": len(self.examples), "rows": self.rows, "packed": self._rows.packed}
        return about | {"mask_prompt": self.examples.mask_prompt, "sha256": self.examples.digest()}


class HeldOutExamples:
    """Evaluation batches of examples, in the order of their rows. tokens: about how many places are gone through: whole
    rows at even distances, the same ones each time; None: all."""

    def __init__(self, examples: Examples, *, packed: bool, batch_size: int, tokens: int | None = None):
        self.examples, self.batch_size = examples, batch_size
        self._rows = _Rows(examples, packed)
        rows = len(self._rows)
        if rows == 0:
            raise ValueError(f"{examples.name}: no example has anything to score")
        places = int((examples.counts.tokens[self._rows.used] - 1).sum())
        chosen = rows if tokens is None else min(rows, max(1, rows * tokens // max(1, places)))
        self.chosen = spread(rows, chosen)
        self.share = len(self.chosen) / rows

    def __len__(self) -> int:
        return -(-len(self.chosen) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.one, range(len(self)))

    def one(self, number: int) -> Batch:
        """Batch ``number``, from 0."""
        start = number * self.batch_size
        return self._rows.batch(self.chosen[start : start + self.batch_size])
