"""Safetensors files: a reader that trusts nothing, and a durable writer that makes no copy of the numbers.

The format (https://github.com/huggingface/safetensors, "Format"): 8 bytes N, little-endian; N bytes of JSON,
``{name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}``, padded with spaces; the data.
The reader is our own: what the library refuses, and how, differs between its versions, and its errors do not say where.
So is the writer: the library makes two copies of all tensors, for which a training has no memory. It makes these bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from loopos.errors import CheckpointError

from . import durable
from .kinds import HEAD, weights_kind_of

# BF16 has no numpy type: its bits come as uint16 (shifted left by 16 they are a float32).
DTYPES = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
_WRITABLE = frozenset(_NAMES)
_ORDER = ("U64", "I64", "F64", "F32", "U32", "I32", "F16", "U16", "I16", "I8", "U8", "BOOL")
_MAX_DIMS = 32  # what every numpy can hold
_MAX_SIZE = 2**63 - 1


class Tensor(NamedTuple):
    """One tensor of a file: its dtype's name there ("F32", "BF16", ...) and its values (BF16: the bits as uint16)."""

    dtype: str
    array: np.ndarray


class Slot(NamedTuple):
    """A tensor of the header; begin and end count from where the data begin."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a file, whose header is checked and whose data are not read. OSError when it cannot be read,
    CheckpointError when it is not sound."""
    with durable.open_regular(path) as (file, size):
        return read_header(file, size, path)[1]


def read_header(file: BinaryIO, size: int, path: str | os.PathLike) -> tuple[list[Slot], dict[str, str], int]:
    """(tensors in the order of their data, metadata, where the data begin) of an open file of ``size`` bytes: all that
    the header claims is checked. The file then stands where the data begin."""
    length = _header_length(file, size, path)
    return *_layout(durable.read_exactly(file, length, path), size - 8 - length, path), 8 + length


def parse_safetensors(data: np.ndarray, path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file's bytes in memory, in the order of their data, and its metadata. data: a uint8 array, of
    which the tensors are views; path is for the messages. CheckpointError when it is not a sound safetensors file."""
    length = _checked_length(data[:HEAD], data.size, path)
    slots, metadata = _layout(data[8 : 8 + length], data.size - 8 - length, path)
    return _tensors(slots, data[8 + length :], 8 + length, path), metadata


def serialize_safetensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file. TypeError for what is not an array of a dtype the reader knows."""
    return b"".join(safetensors_pieces(arrays, metadata))


def safetensors_pieces(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> list[bytes | np.ndarray]:
    """The same bytes in pieces: the header, and of each tensor that is not empty its own memory, or a copy where it is
    not dense. They come in the order of the library: larger elements first, so that all are aligned, then by name."""
    dense: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            got = f"{name!r}: {type(array).__name__}"
            raise TypeError(f"serialize_safetensors: expected str names and numpy arrays, got {got}")
        little = array.dtype.newbyteorder("<")
        if little not in _WRITABLE:
            known = ", ".join(sorted(str(dtype) for dtype in _WRITABLE))
            raise TypeError(f"serialize_safetensors: {name!r} has dtype {array.dtype}; expected one of {known}")
        if name == "__metadata__":
            raise ValueError("serialize_safetensors: the format reserves the name '__metadata__'; choose another")
        dense[name] = np.asarray(array, dtype=little, order="C")
    names = sorted(dense, key=lambda name: (_ORDER.index(_NAMES[dense[name].dtype]), name))
    header = _header(
        {name: (_NAMES[dense[name].dtype], dense[name].shape, dense[name].nbytes) for name in names}, metadata
    )
    return [header, *(dense[name].reshape(-1).view(np.uint8) for name in names if dense[name].size)]


def _header(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str] | None) -> bytes:
    """What stands before the data of tensors (dtype's name, shape, bytes), in their order."""
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name, (kind, shape, size) in tensors.items():
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def stream_safetensors(
    arrays: Mapping[str, tuple[tuple[int, ...], np.ndarray]], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | np.ndarray]:
    """The same bytes in parts, of arrays that share one dtype, each with its shape in the file: none is copied but one
    that is not dense, when it is its turn."""
    names = sorted(arrays)
    (dtype,) = {str(array.dtype) for _, array in arrays.values()}
    known = next(name for name, each in DTYPES.items() if each == np.dtype(dtype))
    yield _header({name: (known, arrays[name][0], arrays[name][1].nbytes) for name in names}, metadata)
    for name in names:
        array = arrays[name][1]
        if array.size:
            yield np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _header_length(file: BinaryIO, size: int, path: str | os.PathLike) -> int:
    """The length that the first 8 bytes of ``file`` claim; the file then stands behind them."""
    head = durable.read_exactly(file, min(size, HEAD), path)
    length = _checked_length(head, size, path)
    file.seek(8)
    return length


def _checked_length(head: np.ndarray, size: int, path: str | os.PathLike) -> int:
    """The length of the header, where ``head`` may be the beginning of a safetensors file; else what it is instead."""
    length = int.from_bytes(head[:8].tobytes(), "little")
    if 1 <= length <= min(durable.MAX_JSON_BYTES, size - 8) and head[8:9].tobytes() == b"{":
        return length
    if kind := weights_kind_of(head.tobytes()):
        raise CheckpointError(path, f"no safetensors file: this is {kind}", 0)
    if size < 8:
        raise CheckpointError(path, f"{size} bytes are too few for a safetensors file", size)
    if length > min(durable.MAX_JSON_BYTES, size - 8):
        raise CheckpointError(path, f"a header of {length} bytes is claimed in a file of {size}", 0)
    raise CheckpointError(path, "the header does not begin with '{'", 8)


def _layout(header: np.ndarray, data_size: int, path: str | os.PathLike) -> tuple[list[Slot], dict[str, str]]:
    """Validate a header against the number of data bytes that follow it."""
    raw = header.tobytes()
    entries = durable.parse_json(raw, path, base=8)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(map(_is_text, (*metadata, *metadata.values()))):
        raise CheckpointError(path, "__metadata__ must map strings to strings", 8)
    slots = [_slot(name, entry, path) for name, entry in entries.items()]
    slots.sort(key=lambda slot: (slot.begin, slot.end))
    reached, base = 0, 8 + len(raw)
    for slot in slots:
        if slot.begin != reached:
            kind = "overlaps the tensor before it" if slot.begin < reached else "leaves a hole before it"
            raise CheckpointError(path, f"tensor {slot.name!r} {kind}", base + min(slot.begin, reached))
        reached = slot.end
        if reached > data_size:
            what = f"the file ends at {base + data_size} bytes, before the end of tensor {slot.name!r}"
            raise CheckpointError(path, what, base + data_size)
    if reached != data_size:
        raise CheckpointError(path, f"{data_size - reached} bytes after the last tensor belong to none", base + reached)
    return slots, metadata


def _is_text(value: Any) -> bool:
    """Whether this is a string of Unicode: JSON can also spell half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _slot(name: str, entry: Any, path: str | os.PathLike) -> Slot:
    def refuse(what: str) -> CheckpointError:
        return CheckpointError(path, f"tensor {name!r}: {what}", 8)

    def is_counts(value: Any) -> bool:  # bool is an int in Python, not in JSON
        return isinstance(value, list) and all(type(n) is int and 0 <= n <= _MAX_SIZE for n in value)

    if not _is_text(name):
        raise refuse("its name is not valid Unicode")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise refuse("expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise refuse(f"the dtype {str(dtype)[:40]!r} is not supported; expected one of {', '.join(DTYPES)}")
    if not is_counts(shape) or len(shape) > _MAX_DIMS:
        raise refuse(f"its shape must be a list of at most {_MAX_DIMS} non-negative integers")
    if not is_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refuse("data_offsets must be two integers, begin <= end")
    itemsize = DTYPES[dtype].itemsize
    if math.prod(n for n in shape if n) * itemsize > _MAX_SIZE:  # numpy too counts without the zeros
        raise refuse(f"its shape {shape} is larger than any memory")
    expected, got = math.prod(shape) * itemsize, offsets[1] - offsets[0]
    if expected != got:
        raise refuse(f"{dtype} of shape {shape} takes {expected} bytes, its data_offsets span {got}")
    return Slot(name, dtype, tuple(shape), offsets[0], offsets[1])


def _tensors(slots: list[Slot], data: np.ndarray, base: int, path: str | os.PathLike) -> dict[str, Tensor]:
    tensors = {}
    for slot in slots:
        part = data[slot.begin : slot.end]
        dtype = DTYPES[slot.dtype]
        if slot.dtype == "BOOL" and part.size and part.max() > 1:
            where = base + slot.begin + int(np.argmax(part > 1))
            raise CheckpointError(path, f"tensor {slot.name!r}: a BOOL byte that is neither 0 nor 1", where)
        array = part.view(dtype).reshape(slot.shape)
        # A header of odd length leaves the data at an odd address.
        tensors[slot.name] = Tensor(slot.dtype, array if array.flags.aligned else array.copy())
    return tensors
