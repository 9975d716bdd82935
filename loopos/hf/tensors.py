"""The weights of a folder as parameters of LoopOS, each read when it is asked for and in the wanted dtype."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.files.mapped import MappedTensor
from loopos.files.tensorfile import DTYPES

from .classes import SCORE
from .families import Family
from .shards import Stored
from .slots import Slot, layout

ROWS = 1 << 16  # numbers that are converted at a time where a parameter comes row by row
NATIVE = {"F32": "float32", "F64": "float64"}


class HalfPrecision(ValueError):
    """F16 or BF16, in which nothing is computed, and nobody said what it is to become."""


class Weights(Mapping[str, np.ndarray]):
    """The parameters by LoopOS name, in LoopOS order. Names, shapes and dtypes have been checked; nothing is read yet.

    ``weights[name]`` is a fresh array of ``dtype``. ``into`` writes one where it is wanted, with no more memory than a
    piece of a file; ``as_stored`` gives one in the dtype of the file. The files stay mapped as long as this lives.
    """

    def __init__(self, path: Path, slots: Iterable[Slot], tensors: Mapping[str, MappedTensor], stored: str, dtype: str):
        self._path, self._slots, self._tensors = path, {slot.name: slot for slot in slots}, tensors
        self.stored, self.dtype = stored, dtype  # of the file: "F32", "F64", "F16" or "BF16"; "float32" or "float64"

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, name: str) -> np.ndarray:
        out = np.empty(self._slots[name].shape, self.dtype)
        self.into(name, out)
        return out

    def shape(self, name: str) -> tuple[int, ...]:
        return self._slots[name].shape

    def into(self, name: str, out: np.ndarray) -> None:
        """Writes a parameter into an array of its shape and of ``dtype``. Widening is exact, narrowing rounds to
        nearest; ValueError where that leaves the range."""
        lost = False
        for tensor, index, numbers, view in self._pieces(name, out):
            if tensor.dtype == "BF16":
                _widen(numbers, view[index])
                continue
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # looked at right below
                view[index] = numbers
            if self.dtype == "float32" and tensor.dtype == "F64":
                lost = lost or bool(np.any(np.isinf(view[index]) & np.isfinite(numbers)))
        if lost:
            cast(self._path, name, self.as_stored(name), self.dtype)  # raises, and says where

    def rows(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows in ``dtype``) of one piece of a parameter after another, to be used before the next, with no
        more memory than that; all of it at once where the file has it in another order."""
        slot = self._slots[name]
        if slot.transposed or slot.heads:
            yield 0, self[name]
            return
        step = max(1, ROWS // math.prod(slot.shape[1:]))
        buffer = np.empty((step, *slot.shape[1:]), self.dtype)
        start = 0
        for source, rows in slot.sources:
            tensor = self._tensors[source]
            for index, numbers in tensor.pieces((rows, *slot.shape[1:])):
                for at in range(0, len(numbers), step):
                    part = numbers[at : at + step]
                    piece = buffer[: len(part)]
                    if tensor.dtype == "BF16":
                        _widen(part, piece)
                    else:
                        narrow = tensor.dtype == "F64" and self.dtype == "float32"
                        piece[...] = cast(self._path, name, part, self.dtype) if narrow else part
                    yield start + index.start + at, piece
            start += rows

    def as_stored(self, name: str) -> np.ndarray:
        """A parameter as a fresh array in the dtype of the file; BF16 as its bits, uint16."""
        out = np.empty(self._slots[name].shape, DTYPES[self.stored])
        for _, index, numbers, view in self._pieces(name, out):
            view[index] = numbers
        return out

    def _pieces(self, name: str, out: np.ndarray) -> Iterator[tuple[MappedTensor, object, np.ndarray, np.ndarray]]:
        for source, _, view in self._slots[name].parts(out):
            tensor = self._tensors[source]
            for index, numbers in tensor.pieces(view.shape):
                yield tensor, index, numbers, view


def _widen(bits: np.ndarray, out: np.ndarray) -> None:
    """BF16 is the upper half of a float32."""
    if out.dtype == np.float32:
        wide = out.view(np.uint32)
        wide[...] = bits
        np.left_shift(wide, 16, out=wide)
    else:
        out[...] = (bits.astype(np.uint32) << 16).view(np.float32)


def weights_of(stored: Stored, config: ModelConfig, family: Family, dtype: str | None) -> Weights:
    """The weights of a folder, whose tensors must be just those that ``config`` needs.

    dtype: None keeps the file's. Raises CheckpointError for tensors that are missing, unexpected, of another shape or
    of dtypes that are mixed or no floats; ValueError for F16 and BF16 without a dtype.
    """
    path = stored.path
    tensors = _canonical(stored.tensors, family)
    if config.n_layer > len(tensors):  # before anything of the size of n_layer is made
        what = f"{len(tensors)} tensors cannot make up the {config.n_layer} layers of config.json"
        raise CheckpointError(path, what)
    slots = list(layout(config, family.names))
    shapes = {source: shape for slot in slots for source, shape in slot.file_shapes()}
    twice = config.tie_embeddings and not config.labels and family.head in tensors
    duplicate = {family.head: shapes[family.embedding]} if twice else {}
    _match(path, {**shapes, **duplicate}, {name: tensor.shape for name, tensor in tensors.items()})
    kind, dtype = _dtypes(path, Counter(tensor.dtype for tensor in tensors.values()), dtype)
    if twice and not _same(tensors[family.head], tensors[family.embedding]):
        what = f"{family.head} differs from {family.embedding}, though config.json ties them (tie_word_embeddings)"
        raise CheckpointError(path, what)
    return Weights(path, slots, tensors, kind, dtype)


def _same(one: MappedTensor, other: MappedTensor) -> bool:
    """Whether they are the same bit for bit."""
    return all(
        np.array_equal(a.view(np.uint8), b.view(np.uint8))
        for (_, a), (_, b) in zip(one.pieces(), other.pieces(), strict=True)
    )


def _canonical(tensors: Mapping[str, MappedTensor], family: Family) -> dict[str, MappedTensor]:
    """With the names the whole model saves, whether or not the file has the prefix, and without constant buffers."""
    prefix = family.prefix
    tensors = {family.aliases.get(name, name): tensor for name, tensor in tensors.items()}
    if not any(name.startswith(prefix) for name in tensors):
        tensors = {name if name in (family.head, SCORE) else prefix + name: tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in tensors.items() if not family.buffers.fullmatch(name)}


def _match(path: Path, expected: dict[str, tuple[int, ...]], got: dict[str, tuple[int, ...]]) -> None:
    """CheckpointError listing what is missing, unexpected or of another shape."""
    missing = [name for name in expected if name not in got]
    unexpected = [name for name in got if name not in expected]
    other = [f"{n} is {got[n]}, expected {expected[n]}" for n in expected if n in got and got[n] != expected[n]]
    parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
    wrong = [f"{len(names)} {what}: {_listed(names)}" for what, names in parts if names]
    if wrong:
        raise CheckpointError(path, "the tensors are not those of config.json; " + "; ".join(wrong))


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _dtypes(path: Path, kinds: Counter, dtype: str | None) -> tuple[str, str]:
    """The one dtype of the file and the one to convert to."""
    if len(kinds) != 1:
        found = ", ".join(f"{count} of {kind}" for kind, count in sorted(kinds.items()))
        raise CheckpointError(path, f"the weights must share one dtype, got {found}")
    (stored,) = kinds
    if stored not in {*NATIVE, "F16", "BF16"}:
        raise CheckpointError(path, f"the weights must be F64, F32, F16 or BF16, got {stored}")
    if dtype is None and stored not in NATIVE:
        raise HalfPrecision(
            f"from_pretrained: {path} holds {stored}, in which LoopOS does not compute; pass dtype='float32' or "
            "dtype='float64' (both are exact)"
        )
    return stored, dtype or NATIVE[stored]


def cast(path: Path, name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """``array`` as a fresh array of ``dtype``: exact when it widens, rounded to nearest when it narrows."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # looked at right below
        result = array.astype(dtype)
    lost = np.isinf(result) & np.isfinite(array)
    if lost.any():
        index = tuple(int(i) for i in np.argwhere(lost)[0])
        raise ValueError(
            f"from_pretrained: {path}: {name}{list(index)} = {array[index]!r} is beyond the range of {dtype}; "
            "load it with dtype='float64'"
        )
    return result
