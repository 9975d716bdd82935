"""Batches: which tokens every update sees. A batch is a pure function of (step, micro), so resuming needs no cursor.

Here are those of a stream of ids and of a user's object; ``loopos.data.sources`` chooses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from loopos import checks

from .held_out import IGNORE, spread
from .order import Order
from .reading import Source, check_ids, fingerprint, require_length, token_array

# (ids, targets), or (ids, targets, documents): (B, T) each. The numbers of documents never fall along a row; a run of
# equal ones is a document, whose tokens see one another alone, and in which positions begin at 0. Padding is a document
# of its own with targets that are ignored.
Batch = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, np.ndarray]


class TokenStream:
    """Training batches from one array of ids.

    Window w is ids[wT : wT + T] with targets one further; there are (N - 1) // T of them, the tokens after the last are
    not used. Each epoch is every window once, shuffled; batches are cut from the epochs laid end to end, so every batch
    is full and may cross a border, or hold several epochs when batch_size exceeds the windows."""

    def __init__(
        self,
        ids: Any,
        *,
        seq_len: int,
        batch_size: int,
        vocab_size: int,
        grad_accum: int = 1,
        seed: int = 1337,
        name: str = "data",
    ):
        """ids (N,): integers, N > seq_len (else ValueError), all within 0..vocab_size-1 (else IndexError)."""
        self.ids = token_array(ids, name)
        self.seq_len = checks.count("train", "seq_len", seq_len)
        self.batch_size = checks.count("train", "batch_size", batch_size)
        self.grad_accum = checks.count("train", "grad_accum", grad_accum)
        seed = checks.integer("train", "seed", seed, low=0, high=2**64 - 1)
        require_length(Source(self.ids, name), len(self.ids), self.seq_len)
        check_ids(self.ids, vocab_size, name)
        self.windows = (len(self.ids) - 1) // self.seq_len
        self._rows = np.lib.stride_tricks.sliding_window_view(self.ids, self.seq_len + 1)[:: self.seq_len]  # a view
        self._order = Order(self.windows, seed)

    @property
    def steps_per_epoch(self) -> int:
        """ceil(windows / (batch_size grad_accum))."""
        return -(-self.windows // (self.batch_size * self.grad_accum))

    def batch(self, step: int, micro: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(ids, targets), int64 (batch_size, seq_len), of micro-batch ``micro`` of update ``step``, both from 0."""
        return self.part(step, micro, 0, self.batch_size)

    def part(self, step: int, micro: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [first, last) of that batch; no other tokens are read."""
        if step < 0 or not 0 <= micro < self.grad_accum:
            raise ValueError(
                f"TokenStream.batch: expected step >= 0 and micro from 0 to {self.grad_accum - 1}, "
                f"got step {step}, micro {micro}"
            )
        block = self._rows[self._order.batch(step * self.grad_accum + micro, self.batch_size)[first:last]]
        return block[:, :-1].astype(np.int64), block[:, 1:].astype(np.int64)

    def fingerprint(self) -> dict[str, Any]:
        """See :func:`fingerprint`: what a checkpoint keeps to know the data again."""
        return fingerprint(self.ids)


class DatasetSource:
    """A user's object with ``batch(step, micro) -> (ids, targets)``, or (ids, targets, documents), its batches checked
    before they are used. One that has ``batch_size`` and ``part(step, micro, first, last)``, which gives rows [first,
    last) of that batch, is asked for its own rows alone by each of several processes.

    tokens: about how many positions an evaluation goes through: batches evenly spread over the len() of them, the same
    ones each time; None: all."""

    def __init__(
        self, dataset: Any, *, vocab_size: int, context_length: int, name: str = "data", tokens: int | None = None
    ):
        self._dataset, self._name = dataset, name
        self._vocab_size, self._context_length, self._tokens = vocab_size, context_length, tokens
        self.share = 1.0  # of the batches, that the latest evaluation went through
        if callable(getattr(dataset, "part", None)) and hasattr(dataset, "batch_size"):
            self.batch_size, self.part = checks.count(name, "batch_size", dataset.batch_size), self._part
        self.steps_per_epoch: int | None = len(dataset) if hasattr(type(dataset), "__len__") else None
        if self.steps_per_epoch == 0:
            raise ValueError(f"{name}: len() is the number of steps per epoch and must be at least 1, got 0")

    def batch(self, step: int, micro: int = 0) -> Batch:
        """What the object gave, int64 (B, T) each. ValueError without a row; see :func:`check_batch`."""
        where = f"{self._name}.batch({step}, {micro})"
        batch = self._checked(self._dataset.batch(step, micro), where)
        if len(batch[0]) == 0:
            raise ValueError(f"{where}: the batch is empty, its shape is {batch[0].shape}; give at least one row")
        return batch

    def _part(self, step: int, micro: int, first: int, last: int) -> Batch:
        """Rows [first, last) of that batch, in the same way."""
        where = f"{self._name}.part({step}, {micro}, {first}, {last})"
        batch = self._checked(self._dataset.part(step, micro, first, last), where)
        if len(batch[0]) != last - first:
            raise ValueError(f"{where}: expected {last - first} rows, got the shape {batch[0].shape}")
        return batch

    def _checked(self, given: Any, where: str) -> Batch:
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise TypeError(
                f"{where}: expected a pair (ids, targets) or (ids, targets, documents), got {checks.shown(given)}"
            )
        documents = given[2] if len(given) == 3 else None
        return check_batch(*given[:2], self._vocab_size, self._context_length, where, documents=documents)

    def __len__(self) -> int:
        if self.steps_per_epoch is None:
            raise TypeError(f"{self._name}: the dataset has no len()")
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        """Yield one epoch of batches, or as much of it as ``tokens`` allow, for evaluation."""
        first, count = self.batch(0), len(self)
        if self._tokens is not None:
            count = min(count, max(1, self._tokens // first[0].size))
        self.share = count / len(self)
        yield first
        yield from (self.batch(step) for step in spread(len(self), count)[1:])

    def fingerprint(self) -> dict[str, Any]:
        return {"kind": "dataset", "length": self.steps_per_epoch}


def check_batch(
    ids: Any, targets: Any, vocab_size: int, context_length: int, where: str = "batch", *, documents: Any = None
) -> Batch:
    """The pair, or with documents the three, as contiguous int64 (B, T) arrays, after checking it. Not integer arrays:
    TypeError. Not of two dimensions, of unequal shapes, T = 0 or T > context_length, documents that fall along a row:
    ValueError. An id outside 0..V-1, or a target that is neither that nor -100: IndexError with position and value."""
    given = {"ids": ids, "targets": targets} | ({} if documents is None else {"documents": documents})
    for name, array in given.items():
        kind = array.dtype if isinstance(checks.unmasked(where, name, array), np.ndarray) else type(array).__name__
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
            raise TypeError(f"{where}: {name} must be a numpy array of integers, got {kind}")
        if array.ndim != 2:
            raise ValueError(f"{where}: {name} must have shape (B, T), got {array.shape}")
        if array.shape != ids.shape:
            raise ValueError(f"{where}: {name} must have the shape of ids {ids.shape}, got {array.shape}")
    if not 1 <= ids.shape[1] <= context_length:
        raise ValueError(f"{where}: T must be from 1 to context_length {context_length}, got shape {ids.shape}")
    valid = f"0..{vocab_size - 1}"
    _refuse_first((ids < 0) | (ids >= vocab_size), ids, f"{where}: ids", f"outside {valid}")
    outside = ((targets < 0) & (targets != IGNORE)) | (targets >= vocab_size)
    _refuse_first(outside, targets, f"{where}: targets", f"neither in {valid} nor {IGNORE}, which is ignored")
    if documents is not None:
        falls = np.zeros(ids.shape, bool)
        falls[:, 1:] = documents[:, 1:] < documents[:, :-1]
        why = "less than the number before it: a document is a run of equal numbers, and they never fall along a row"
        _refuse_first(falls, documents, f"{where}: documents", why, ValueError)
    arrays = tuple(np.ascontiguousarray(array, np.int64) for array in given.values())
    return cast(Batch, arrays)


def _refuse_first(
    outside: np.ndarray, array: np.ndarray, what: str, why: str, error: type[Exception] = IndexError
) -> None:
    if outside.any():
        row, column = np.unravel_index(int(np.argmax(outside)), outside.shape)
        raise error(f"{what}[{row}, {column}] = {array[row, column]} is {why}")
