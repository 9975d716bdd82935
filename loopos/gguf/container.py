"""The container of a GGUF file: metadata and where each tensor lies, read by a parser that trusts nothing.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian: magic, version, counts; key, type
and value of each metadatum; name, dimensions (the fastest first), type and offset of each tensor; padding; the data.
The reader of the gguf package believes counts and lengths, so files are read here, and it is asked for quantized blocks
and for writing alone.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos.checks import shown
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.kinds import HEAD, weights_kind_of

MAGIC, VERSIONS = b"GGUF", (2, 3)
ALIGNMENT, MAX_ALIGNMENT = 32, 1 << 16
_MAX_TEXTS = 1 << 22  # of one list: ten times the largest vocabulary
_MAX_TEXT, _MAX_NAME, _MAX_DIMS = 1 << 26, 1 << 16, 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_DTYPES = {code: np.dtype("u1" if letter == "?" else "<" + letter) for code, letter in _SCALARS.items()}


class Block(NamedTuple):
    """A storage type: so many numbers take so many bytes."""

    name: str
    numbers: int
    bytes: int


TYPES = {  # what is read, by its number in the file
    0: Block("F32", 1, 4),
    1: Block("F16", 1, 2),
    2: Block("Q4_0", 32, 18),
    3: Block("Q4_1", 32, 20),
    6: Block("Q5_0", 32, 22),
    7: Block("Q5_1", 32, 24),
    8: Block("Q8_0", 32, 34),
    12: Block("Q4_K", 256, 144),
    14: Block("Q6_K", 256, 210),
    30: Block("BF16", 1, 2),
}
_OTHERS = {10: "Q2_K", 11: "Q3_K", 13: "Q5_K", 16: "IQ2_XXS", 20: "IQ4_NL", 23: "IQ4_XS", 28: "F64", 39: "MXFP4"}


class Stored(NamedTuple):
    """A tensor: shape as numpy has it, the fastest dimension last; begin: of its bytes in the file."""

    name: str
    shape: tuple[int, ...]
    type: Block
    begin: int

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) // self.type.numbers * self.type.bytes


@dataclass(frozen=True)
class Container:
    """metadata: int, float, bool, str, lists of str, and numpy arrays of numbers by key; tensors by name."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Stored]

    def raw(self, tensor: Stored, first: int, rows: int) -> np.ndarray:
        """The stored bytes (rows, bytes of a row) of some rows of a matrix, or of a vector as one row."""
        width = tensor.bytes // max(1, math.prod(tensor.shape[:-1]))
        with durable.open_regular(self.path) as (file, _):
            file.seek(tensor.begin + first * width)
            return durable.read_exactly(file, rows * width, self.path).reshape(rows, width)


def open_container(path: str | os.PathLike) -> Container:
    """The container of a file, all of whose claims are checked against the file's size before anything of that size is
    made. OSError when it cannot be read, CheckpointError when it is not sound."""
    path = Path(path)
    with durable.open_regular(path) as (file, size):
        head = file.read(min(size, HEAD))
        if not head.startswith(MAGIC):
            kind = weights_kind_of(head)
            raise CheckpointError(path, f"no GGUF file: this is {kind or 'something else'}", 0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Parser(path, data, size).container()


class _Parser:
    def __init__(self, path: Path, data: Any, size: int):
        self.path, self.data, self.size, self.at = path, data, size, len(MAGIC)

    def refuse(self, what: str, at: int | None = None) -> CheckpointError:
        return CheckpointError(self.path, what, self.at if at is None else at)

    def container(self) -> Container:
        version = self.number("I", "the version")
        if version not in VERSIONS:
            big = struct.pack("<I", version) in [struct.pack(">I", each) for each in VERSIONS]
            said = "a big-endian file" if big else f"version {version}"
            raise self.refuse(f"{said} is not supported; expected GGUF version 2 or 3, little-endian", 4)
        tensors, pairs = self.number("Q", "the number of tensors"), self.number("Q", "the number of metadata")
        self.room(pairs, 8 + 4 + 1, "metadata")
        self.room(tensors, 8 + 4 + 4 + 8, "tensors")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.text("the name of a metadatum", _MAX_NAME)
            if key in metadata:
                raise self.refuse(f"the metadatum {shown(key)} occurs twice")
            metadata[key] = self.value(key, self.number("I", f"the type of {shown(key)}"))
        described = [self.tensor() for _ in range(tensors)]
        return Container(self.path, metadata, self.placed(described, self.alignment(metadata)))

    def take(self, count: int, what: str) -> bytes:
        if count > self.size - self.at:
            raise self.refuse(f"the file of {self.size} bytes ends within {what}, which takes {count}")
        self.at += count
        return self.data[self.at - count : self.at]

    def room(self, count: int, least: int, what: str) -> None:
        if count > (self.size - self.at) // least:
            raise self.refuse(f"{count} {what} are claimed, which {self.size - self.at} bytes cannot hold")

    def number(self, letter: str, what: str) -> Any:
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter), what))[0]

    def text(self, what: str, most: int = _MAX_TEXT) -> str:
        length = self.number("Q", what)
        if length > most:
            raise self.refuse(f"{what} is claimed to have {length} bytes, {most} are the most", self.at - 8)
        try:
            return self.take(length, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.refuse(f"{what} is not UTF-8: {error.reason}") from None

    def value(self, key: str, kind: int) -> Any:
        what = f"the value of {shown(key)}"
        if kind == _TEXT:
            return self.text(what)
        if kind in _SCALARS:
            return self.scalar(kind, what)
        if kind != _LIST:
            raise self.refuse(f"{what} has the unknown type {kind}", self.at - 4)
        kind, count = self.number("I", what), self.number("Q", what)
        if kind == _TEXT:
            self.room(count, 8, f"texts of {shown(key)}")
            if count > _MAX_TEXTS:
                raise self.refuse(f"{what} is claimed to have {count} texts, {_MAX_TEXTS} are the most")
            return [self.text(what) for _ in range(count)]
        if kind not in _DTYPES:
            raise self.refuse(f"{what} is a list of the type {kind}; expected numbers or texts")
        dtype = _DTYPES[kind]
        self.room(count, dtype.itemsize, f"numbers of {shown(key)}")
        array = np.frombuffer(self.take(count * dtype.itemsize, what), dtype)
        return array.astype(bool) if _SCALARS[kind] == "?" else array

    def scalar(self, kind: int, what: str) -> Any:
        if _SCALARS[kind] != "?":
            return self.number(_SCALARS[kind], what)
        byte = self.number("B", what)
        if byte > 1:
            raise self.refuse(f"{what} is a truth value of {byte}; expected 0 or 1", self.at - 1)
        return bool(byte)

    def tensor(self) -> tuple[str, tuple[int, ...], Block, int]:
        name = self.text("the name of a tensor", _MAX_NAME)
        what = f"tensor {shown(name)}"
        dims = self.number("I", f"the dimensions of {what}")
        if not 1 <= dims <= _MAX_DIMS:
            raise self.refuse(f"{what} has {dims} dimensions; expected 1 to {_MAX_DIMS}", self.at - 4)
        shape = tuple(self.number("Q", f"the dimensions of {what}") for _ in range(dims))[::-1]
        kind, offset = self.number("I", f"the type of {what}"), self.number("Q", f"the offset of {what}")
        if kind not in TYPES:
            known = ", ".join(block.name for block in TYPES.values())
            raise self.refuse(f"{what} is of the type {_OTHERS.get(kind, kind)}; these are read: {known}", self.at - 12)
        block = TYPES[kind]
        if 0 in shape or math.prod(shape) // block.numbers * block.bytes > self.size:
            raise self.refuse(f"{what} of shape {shape} does not fit in a file of {self.size} bytes")
        if shape[-1] % block.numbers:
            raise self.refuse(f"{what}: rows of {shape[-1]} are not whole blocks of {block.numbers} ({block.name})")
        return name, shape, block, offset

    def alignment(self, metadata: dict[str, Any]) -> int:
        value = metadata.get("general.alignment", ALIGNMENT)
        if type(value) is not int or not 1 <= value <= MAX_ALIGNMENT or value & (value - 1):
            raise self.refuse(f"general.alignment must be a power of two up to {MAX_ALIGNMENT}, got {shown(value)}")
        return value

    def placed(self, described: list[tuple[str, tuple[int, ...], Block, int]], alignment: int) -> dict[str, Stored]:
        """The tensors where they lie: each within the file, none over another."""
        base, tensors = -(-self.at // alignment) * alignment, {}
        for name, shape, block, offset in described:
            if name in tensors:
                raise self.refuse(f"the tensor {shown(name)} occurs twice")
            if offset % alignment:
                raise self.refuse(f"tensor {shown(name)} lies at {offset}, which is no multiple of {alignment}")
            tensors[name] = Stored(name, shape, block, base + offset)
        reached = base
        for tensor in sorted(tensors.values(), key=lambda each: each.begin):
            if tensor.begin < reached:
                raise self.refuse(f"tensor {shown(tensor.name)} overlaps the one before it", tensor.begin)
            reached = tensor.begin + tensor.bytes
            if reached > self.size:
                what = f"the file ends at {self.size} bytes, before the end of tensor {shown(tensor.name)}"
                raise self.refuse(what, self.size)
        return tensors
