"""Safetensors files that stay on the disk: the header is checked, the numbers come piece by piece.

A file is mapped, and each piece's pages are given back when the next one is asked for, so that reading a file into
other memory takes that memory and one piece.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from loopos.errors import CheckpointError

from . import durable
from .tensorfile import DTYPES, Slot, read_header

PIECE = 1 << 22  # bytes


class MappedTensor:
    """One tensor of a mapped file: its dtype's name there ("F32", "BF16", ...) and its shape. It keeps the file."""

    def __init__(self, file: _File, slot: Slot):
        self._file, self._begin = file, slot.begin
        self.dtype, self.shape = slot.dtype, slot.shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def pieces(self, shape: tuple[int, ...] | None = None) -> Iterator[tuple[Any, np.ndarray]]:
        """(index, numbers) of one piece after another, along the first dimension of ``shape`` (None: its own): what
        ``array[index] = numbers`` copies. The numbers are a view, to be used before the next piece; BF16 comes as its
        bits, uint16. CheckpointError when the file was cut short in the meantime."""
        shape = self.shape if shape is None else shape
        dtype = DTYPES[self.dtype]
        if not self.size:
            return
        rows = shape[0] if shape else 1
        row = self.size // rows * dtype.itemsize
        step = max(1, PIECE // row)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            with_data = self._file.view(self._begin + first * row, count * row)
            numbers = with_data.view(dtype).reshape(count, *shape[1:]) if shape else with_data.view(dtype).reshape(())
            yield (slice(first, first + count) if shape else ...), numbers
            del with_data, numbers
            self._file.give_back(self._begin + first * row, count * row)


class _File:
    """The mapping of one file; it ends with the last tensor that refers to it."""

    def __init__(self, path: str | os.PathLike, descriptor: int, size: int, base: int):
        self.path, self._base, self._size = path, base, size
        with durable.explained("map", path):
            self._map = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)

    def view(self, begin: int, count: int) -> np.ndarray:
        # Memory behind the end of a file that was cut short cannot be read: the process would die of it.
        with durable.explained("read", self.path):
            size = self._map.size()
        if size < self._size:
            raise CheckpointError(
                self.path, f"the file ends {self._size - size} bytes early: it changed while being read"
            )
        return np.frombuffer(self._map, np.uint8, count, self._base + begin)

    def give_back(self, begin: int, count: int) -> None:
        first = (self._base + begin) // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, first, self._base + begin + count - first)


def map_safetensors(path: str | os.PathLike) -> dict[str, MappedTensor]:
    """The tensors of a file, in the order of their data; everything that the header claims is checked.

    Raises OSError when the file cannot be read, CheckpointError when it is not a sound safetensors file.
    """
    with durable.open_regular(path) as (file, size):
        slots, _, base = read_header(file, size, path)
        mapped = _File(path, file.fileno(), size, base)
    return {slot.name: MappedTensor(mapped, slot) for slot in slots}
