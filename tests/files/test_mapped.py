"""Mapped safetensors files: the numbers are those of a reader, piece by piece, and a file that shrinks is told."""

from __future__ import annotations

import os

import numpy as np
import pytest

from loopos.errors import CheckpointError
from loopos.files import mapped
from loopos.files.mapped import map_safetensors
from loopos.files.tensorfile import DTYPES, parse_safetensors, serialize_safetensors

RNG = np.random.default_rng(0)
ARRAYS = {
    "matrix": RNG.standard_normal((7, 5)).astype(np.float32),
    "deep": RNG.standard_normal((3, 4, 5)),
    "half": RNG.standard_normal((6, 2)).astype(np.float16),
    "row": RNG.standard_normal(9).astype(np.float32),
    "scalar": np.array(3.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "no columns": np.zeros((4, 0), np.float32),
    "flags": np.array([True, False]),
}


@pytest.fixture(params=[1, 40, 1 << 22])
def path(request, tmp_path, monkeypatch):
    """A file of ARRAYS, which is read in pieces of so many bytes."""
    monkeypatch.setattr(mapped, "PIECE", request.param)
    (tmp_path / "x.safetensors").write_bytes(serialize_safetensors(ARRAYS))
    return tmp_path / "x.safetensors"


def read(tensor):
    result = np.empty(tensor.shape, DTYPES[tensor.dtype])
    for index, numbers in tensor.pieces():
        result[index] = numbers
    return result


def test_the_numbers_are_those_of_the_file(path):
    tensors = map_safetensors(path)
    assert list(tensors) == list(parse_safetensors(np.fromfile(path, np.uint8), path)[0])
    for name, tensor in tensors.items():
        assert (DTYPES[tensor.dtype], tensor.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
        assert read(tensor).tobytes() == ARRAYS[name].tobytes()


def test_pieces_are_small_and_in_another_shape(path):
    matrix = map_safetensors(path)["matrix"]
    out = np.zeros((5, 7), np.float32)
    sizes = []
    for index, numbers in matrix.pieces((5, 7)):
        out[index] = numbers
        sizes.append(numbers.nbytes)
    assert out.tobytes() == ARRAYS["matrix"].tobytes()
    assert max(sizes) <= max(mapped.PIECE, 28)


def test_a_header_of_odd_length_is_read(path):
    """Data at an odd address."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length].rstrip()
    path.write_bytes((len(header) + 1).to_bytes(8, "little") + header + b" " * 1 + raw[8 + length :])
    if (len(header) + 1) % 2 == 0:
        path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
    for name, tensor in map_safetensors(path).items():
        assert read(tensor).tobytes() == ARRAYS[name].tobytes()


def test_a_file_that_is_cut_short_while_it_is_mapped_is_told(path):
    """Reading behind its end would end the process (SIGBUS)."""
    tensor = map_safetensors(path)["matrix"]
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match="ends 1 bytes early"):
        read(tensor)


def test_a_file_that_is_cut_short_between_two_pieces_is_told(tmp_path, monkeypatch):
    """By more than a page: without a look at its size before each piece the process would end here."""
    monkeypatch.setattr(mapped, "PIECE", 1 << 14)
    path = tmp_path / "x.safetensors"
    path.write_bytes(serialize_safetensors({"a": np.zeros((16, 1 << 12), np.float32)}))
    pieces = map_safetensors(path)["a"].pieces()
    next(pieces)
    os.truncate(path, 1 << 13)
    with pytest.raises(CheckpointError, match="bytes early: it changed while being read"):
        list(pieces)


def test_a_file_that_is_replaced_is_read_as_it_was(path):
    tensor = map_safetensors(path)["matrix"]
    os.unlink(path)
    path.write_bytes(b"another")
    assert read(tensor).tobytes() == ARRAYS["matrix"].tobytes()


def test_unsound_files(tmp_path):
    path = tmp_path / "x.safetensors"
    for content in (b"", b"\0" * 64, b"{}"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            map_safetensors(path)
    with pytest.raises(FileNotFoundError):
        map_safetensors(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="not a regular file"):
        map_safetensors(tmp_path)


def test_pages_are_given_back(tmp_path):
    """What a tensor of 64 MB leaves of its file in memory is a piece or two."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(serialize_safetensors({"a": np.ones((1 << 14, 1 << 10), np.float32)}))

    def resident() -> int:
        with open("/proc/self/status") as status:
            return int(next(line for line in status if line.startswith("RssFile")).split()[1]) << 10

    tensor = map_safetensors(path)["a"]
    before, most, total = resident(), 0, 0.0
    for _, numbers in tensor.pieces():
        total += float(numbers.sum())
        most = max(most, resident() - before)
    assert total == 1 << 24
    assert most < 12 << 20
