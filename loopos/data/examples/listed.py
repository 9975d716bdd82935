"""Batches of rows that are in memory: each a pair (ids, targets), or two of them that belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from loopos.data.held_out import spread
from loopos.data.order import Order

from .padded import padded, width

Row = tuple[np.ndarray, np.ndarray]  # ids and targets, (n,) each


class ListedRows:
    """Training batches. groups: rows that come together (each has one, or each a pair); a batch has ``batch_size``
    groups, each epoch every group once, shuffled; a batch is a function of (step, micro). places: where each group came
    from, in words. kind and about: what a checkpoint keeps to know the data again."""

    def __init__(
        self,
        groups: Sequence[tuple[Row, ...]],
        places: Sequence[str],
        *,
        seq_len: int,
        batch_size: int,
        grad_accum: int = 1,
        seed: int = 1337,
        kind: str,
        about: dict[str, Any] | None = None,
    ):
        self._groups, self._places, self._most = groups, places, seq_len
        self.batch_size, self.grad_accum, self._kind, self._about = batch_size, grad_accum, kind, about or {}
        self._order = Order(len(groups), seed)

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, of texts with a label."""
        return tuple(self._about.get("labels", ()))

    @property
    def seq_len(self) -> int:
        """Positions of the widest batch."""
        return width(max(len(ids) for group in self._groups for ids, _ in group), self._most)

    @property
    def steps_per_epoch(self) -> int:
        """ceil(groups / (batch_size grad_accum))."""
        return -(-len(self._groups) // (self.batch_size * self.grad_accum))

    def _chosen(self, step: int, micro: int) -> np.ndarray:
        return self._order.batch(step * self.grad_accum + micro, self.batch_size)

    def batch(self, step: int, micro: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(ids, targets), int64 (rows, T), of micro-batch ``micro`` of update ``step``, both from 0."""
        return padded(self._rows(step, micro), self._most)

    def part(self, step: int, micro: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [first, last) of that batch."""
        return padded(self._rows(step, micro), self._most, slice(first, last))

    def _rows(self, step: int, micro: int) -> list[Row]:
        return [row for at in self._chosen(step, micro) for row in self._groups[int(at)]]

    def origin(self, step: int, micro: int, row: int) -> str:
        """Where row ``row`` of that batch came from, in words."""
        rows_of_a_group = len(self._groups[0])
        return self._places[int(self._chosen(step, micro)[row // rows_of_a_group])]

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint keeps to know the data again."""
        digest = hashlib.sha256()
        for group in self._groups:
            for part in (part for row in group for part in row):
                digest.update(np.ascontiguousarray(part, np.int64).tobytes() + b"\0")
        return {"kind": self._kind, "length": len(self._groups), "sha256": digest.hexdigest()} | self._about


class HeldOutRows:
    """Evaluation batches, in order. tokens: about how many places are gone through: groups at even distances, the same
    ones each time; None: all."""

    def __init__(self, groups: Sequence[tuple[Row, ...]], *, seq_len: int, batch_size: int, tokens: int | None = None):
        self._groups, self._most, self.batch_size = groups, seq_len, batch_size
        places = sum(len(ids) for group in groups for ids, _ in group)
        chosen = len(groups) if tokens is None else min(len(groups), max(1, len(groups) * tokens // max(1, places)))
        self.chosen = spread(len(groups), chosen)
        self.share = len(self.chosen) / len(groups)

    def __len__(self) -> int:
        return -(-len(self.chosen) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return map(self.one, range(len(self)))

    def one(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch ``number``, from 0."""
        held = self.chosen[number * self.batch_size : (number + 1) * self.batch_size]
        return padded([row for at in held for row in self._groups[int(at)]], self._most)
