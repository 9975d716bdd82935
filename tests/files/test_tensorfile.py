"""Safetensors: what is written comes back, the library agrees, and no hostile file gets further than its header."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.tensorfile import (
    DTYPES,
    parse_safetensors,
    read_metadata,
    safetensors_pieces,
    serialize_safetensors,
    stream_safetensors,
)


def _file(header, data=b"", length=None) -> np.ndarray:
    """The bytes of a file with this header (JSON text, or what becomes it)."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return np.frombuffer(struct.pack("<Q", len(text) if length is None else length) + text + data, np.uint8).copy()


def _tensor(begin, end, shape=None, dtype="U8", **more):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]} | more


kinds = st.sampled_from(sorted({str(dtype) for name, dtype in DTYPES.items() if name != "BF16"}))
names = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda name: name != "__metadata__")
arrays = kinds.flatmap(
    lambda kind: npst.arrays(kind, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@settings(max_examples=50)
@given(st.dictionaries(names, arrays, max_size=5), st.booleans())
def test_a_round_trip_and_the_library_agrees(given_arrays, with_metadata):
    metadata = {"format": "pt", "ä": ""} if with_metadata else None
    data = serialize_safetensors(given_arrays, metadata)
    library = safetensors.numpy.load(data)
    tensors, found = parse_safetensors(np.frombuffer(data, np.uint8), "x")
    assert found == (metadata or {})
    assert set(tensors) == set(given_arrays) == set(library)
    for name, array in given_arrays.items():
        for got in (tensors[name].array, library[name]):
            assert (got.dtype, got.shape, got.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert DTYPES[tensors[name].dtype] == array.dtype


def test_files_and_memory_orders(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    given_arrays = {
        "t": base.T,
        "s": base[::2, ::-3],
        "f": np.asfortranarray(base),
        "big": base.astype(">f4"),
        "0": base[0, 0:1].reshape(()),
    }
    durable.write_bytes(tmp_path / "a", serialize_safetensors(given_arrays, {"format": "pt"}))
    tensors, metadata = parse_safetensors(durable.read_bytes(tmp_path / "a"), tmp_path / "a")
    assert metadata == read_metadata(tmp_path / "a") == {"format": "pt"}
    for name, array in given_arrays.items():
        assert tensors[name].dtype == "F32"
        assert tensors[name].array.dtype == np.float32
        assert tensors[name].array.flags.writeable
        np.testing.assert_array_equal(tensors[name].array, array)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_half_precision_comes_as_bits_or_float16():
    data = np.array([1.0, -2.5, 3e38], np.float32).view(np.uint32) >> 16
    file = _file(
        {"b": _tensor(0, 6, [3], "BF16"), "h": _tensor(6, 8, [1], "F16")}, data.astype("<u2").tobytes() + b"\x00\x3c"
    )
    tensors, _ = parse_safetensors(file, "x")
    assert (tensors["b"].dtype, tensors["b"].array.dtype) == ("BF16", np.uint16)
    widened = (tensors["b"].array.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened[:2], [1.0, -2.5])
    assert (tensors["h"].dtype, tensors["h"].array[0]) == ("F16", np.float16(1))


def test_an_odd_header_leaves_aligned_arrays():
    text = b'{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}'
    for padding in range(8):
        tensors, _ = parse_safetensors(_file(text + b" " * padding, struct.pack("<d", 1.5)), "x")
        assert tensors["a"].array.flags.aligned
        assert tensors["a"].array[0] == 1.5


def test_what_cannot_be_written():
    for array in (np.zeros(2, complex), np.array(["x"]), np.array([None]), np.zeros(2, np.longdouble), [1.0], 2.0):
        with pytest.raises(TypeError, match="serialize_safetensors: "):
            serialize_safetensors({"a": array})
    with pytest.raises(TypeError, match="expected str names"):
        serialize_safetensors({1: np.zeros(1)})
    with pytest.raises(ValueError, match="reserves the name"):
        serialize_safetensors({"__metadata__": np.zeros(1)})


GOOD = {"a": _tensor(0, 4)}
DEEP: dict = {}
for _ in range(40):
    DEEP = {"a": DEEP}
IN_THE_DATA = "a bool of 2"
MALFORMED = {
    "empty": (b"", "an empty file"),
    "seven bytes": (b"123\xff567", "too few"),
    "header beyond the end": (_file(GOOD, b"1234", 10**6), "is claimed"),
    "header length of 2^64 - 1": (_file(GOOD, b"1234", 2**64 - 1), "is claimed"),
    "header length 0": (_file(GOOD, b"1234", 0), "begin with"),
    "header length one short": (_file(GOOD, b"1234", len(json.dumps(GOOD)) - 1), "not valid JSON"),
    "leading space": (_file(b" " + json.dumps(GOOD).encode(), b"1234"), "begin with"),
    "a list": (_file([]), "begin with"),
    "not UTF-8": (_file(b'{"\xff": 1}'), "not UTF-8"),
    "not JSON": (_file(b"{'a': 1}"), "not valid JSON"),
    "deep": (_file(DEEP), "more than 32 levels"),
    "the same name twice": (
        _file(b'{"a":%b,"a":%b}' % ((json.dumps(GOOD["a"]).encode(),) * 2), b"1234"),
        "occurs twice",
    ),
    "lone surrogate": (_file({"\ud800": _tensor(0, 4)}, b"1234"), "not valid Unicode"),
    "metadata not a dict": (_file(GOOD | {"__metadata__": 1}, b"1234"), "__metadata__"),
    "metadata of numbers": (_file(GOOD | {"__metadata__": {"a": 1}}, b"1234"), "__metadata__"),
    "metadata of a surrogate": (_file(GOOD | {"__metadata__": {"a": "\udfff"}}, b"1234"), "__metadata__"),
    "entry not a dict": (_file({"a": []}), "expected exactly"),
    "missing key": (_file({"a": {"dtype": "U8", "shape": [4]}}, b"1234"), "expected exactly"),
    "additional key": (_file({"a": _tensor(0, 4, strides=[1])}, b"1234"), "expected exactly"),
    "unknown dtype": (_file({"a": _tensor(0, 4, dtype="F8_E4M3")}, b"1234"), "'F8_E4M3' is not supported"),
    "dtype not a string": (_file({"a": _tensor(0, 4, dtype=["U8"])}, b"1234"), "not supported"),
    "negative dimensions": (_file({"a": _tensor(0, 4, [-2, -2])}, b"1234"), "non-negative"),
    "dimension true": (_file({"a": _tensor(0, 4, [4, True])}, b"1234"), "non-negative"),
    "dimension 4.0": (_file({"a": _tensor(0, 4, [4.0])}, b"1234"), "non-negative"),
    "dimension '4'": (_file({"a": _tensor(0, 4, ["4"])}, b"1234"), "non-negative"),
    "shape a number": (_file({"a": _tensor(0, 4) | {"shape": 4}}, b"1234"), "non-negative"),
    "33 dimensions": (_file({"a": _tensor(0, 1, [1] * 33)}, b"1"), "at most 32"),
    "product wraps to 4": (_file({"a": _tensor(0, 4, [2**62, 4, 4])}, b"1234"), "larger than any memory"),
    "product times itemsize wraps": (_file({"a": _tensor(0, 0, [2**61], "F64")}), "larger than any memory"),
    "zero times huge": (_file({"a": _tensor(0, 0, [0, 2**62, 2**62])}), "larger than any memory"),
    "dimension 2^64": (_file({"a": _tensor(0, 0, [2**64, 0])}), "non-negative"),
    "begin after end": (_file({"a": _tensor(4, 0, [4])}, b"1234"), "begin <= end"),
    "negative begin": (_file({"a": _tensor(-4, 0, [4])}, b"1234"), "two integers"),
    "three offsets": (_file({"a": _tensor(0, 4) | {"data_offsets": [0, 2, 4]}}, b"1234"), "two integers"),
    "offset true": (_file({"a": _tensor(0, 1) | {"data_offsets": [False, True]}}, b"1"), "two integers"),
    "offsets do not fit the shape": (_file({"a": _tensor(0, 4, [3])}, b"1234"), "takes 3 bytes"),
    "data cut": (_file(GOOD, b"123"), "before the end of tensor 'a'"),
    "data too long": (_file(GOOD, b"12345"), "1 bytes after the last tensor"),
    "data without tensors": (_file({}, b"1"), "belong to none"),
    "a hole": (_file({"a": _tensor(0, 2), "b": _tensor(3, 4)}, b"1234"), "leaves a hole"),
    "a hole at the start": (_file({"a": _tensor(1, 4)}, b"1234"), "leaves a hole"),
    "an overlap": (_file({"a": _tensor(0, 3), "b": _tensor(2, 4)}, b"1234"), "overlaps"),
    "the same bytes twice": (_file({"a": _tensor(0, 4), "b": _tensor(0, 4)}, b"1234"), "overlaps"),
    IN_THE_DATA: (_file({"a": _tensor(0, 4, dtype="BOOL")}, b"\0\1\2\1"), "neither 0 nor 1"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(tmp_path, name):
    data, what = MALFORMED[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=what) as caught:
        parse_safetensors(np.frombuffer(bytes(data), np.uint8), path)
    assert caught.value.path == str(path)
    assert caught.value.offset is None or 0 <= caught.value.offset <= len(data)
    if name != IN_THE_DATA:
        with pytest.raises(CheckpointError, match=what):
            read_metadata(path)


def test_offsets_of_faults():
    base = 8 + len(json.dumps(GOOD))
    for data, offset in ((b"123", base + 3), (b"12345", base + 4)):
        with pytest.raises(CheckpointError) as caught:
            parse_safetensors(_file(GOOD, data), "x")
        assert caught.value.offset == offset
    file = _file({"a": _tensor(0, 4, dtype="BOOL")}, b"\0\1\2\1")
    with pytest.raises(CheckpointError) as caught:
        parse_safetensors(file, "x")
    assert file[caught.value.offset] == 2


def test_a_header_is_refused_before_its_data_is_read(tmp_path, monkeypatch):
    """A sparse file of a terabyte with a bad header costs nothing."""
    path = tmp_path / "huge"
    path.write_bytes(_file({"a": _tensor(0, 5, [4])}).tobytes())
    with open(path, "r+b") as file:
        file.truncate(2**40)
    asked = []
    real = durable.read_exactly
    monkeypatch.setattr(durable, "read_exactly", lambda file, count, at: asked.append(count) or real(file, count, at))
    with pytest.raises(CheckpointError, match="takes 4 bytes"):
        read_metadata(path)
    assert sum(asked) < 700


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_metadata(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_in_parts_they_are_the_same_bytes(dtype, metadata):
    made = np.arange(24).astype(dtype).reshape(4, 6)
    arrays = {"z": made, "ä": made[:0], "b.weight": made.T, "a": made[1], "scalar": made[2, 3, None].reshape(())}
    parts = [bytes(memoryview(part).cast("B")) for part in stream_safetensors(
        {name: (array.shape, array) for name, array in arrays.items()} | {"other": ((6, 4), made)}, metadata
    )]  # fmt: skip
    assert b"".join(parts) == serialize_safetensors(arrays | {"other": made.reshape(6, 4)}, metadata)


@settings(max_examples=50)
@given(st.dictionaries(names, arrays, max_size=5), st.booleans())
def test_the_bytes_are_those_of_the_library(given_arrays, with_metadata):
    metadata = {"format": "pt"} if with_metadata else None
    assert serialize_safetensors(given_arrays, metadata) == safetensors.numpy.save(given_arrays, metadata)


def test_pieces_are_the_memory_of_the_arrays():
    given_arrays = {"a": np.ones((2, 3)), "t": np.ones((2, 3)).T, "none": np.ones((0, 3))}
    header, a, t = safetensors_pieces(given_arrays)
    assert np.shares_memory(a, given_arrays["a"])
    assert not np.shares_memory(t, given_arrays["t"])  # not dense: a copy
    assert header + a.tobytes() + t.tobytes() == serialize_safetensors(given_arrays)
