"""loopos/data/token_file.py: ids of another width than .bin has are told; shards of llm.c are read behind their header.
What else these files may be is in test_reading.py."""

import gzip

import numpy as np
import pytest

import loopos
from loopos.data import load_ids
from loopos.data.token_file import wider


def ids(high, count=20_000):
    """As text has them: small ids are more frequent."""
    rng = np.random.default_rng(0)
    return np.minimum(rng.integers(1, high, count), rng.integers(1, high, count))


@pytest.mark.parametrize(
    ("dtype", "high", "said"),
    [
        (np.uint32, 50304, "50% of its ids are 0.*every second.*uint32"),
        (np.int32, 50304, "50% of its ids are 0.*every second.*uint32"),
        (np.uint32, 151_000, ".*every second.*uint32"),
        (np.uint32, 260, ".*every second.*uint32"),
        (np.int64, 50304, "75% of its ids are 0.*every fourth.*int64"),
        (np.uint64, 151_000, ".*every fourth.*int64"),
    ],
)
def test_wider_ids_are_told(dtype, high, said, tmp_path):
    path = tmp_path / "ids.bin"
    ids(high).astype(dtype).tofile(path)
    with pytest.warns(UserWarning, match=rf"ids\.bin\): read as uint16, {said}.*np\.memmap.*\.npy"):
        load_ids(path)
    assert np.array_equal(load_ids(np.memmap(path, dtype, "r"))[0], ids(high))  # the way it advises


@pytest.mark.parametrize("high", [2, 10, 40, 256, 50304, 65536])
def test_ids_of_16_bits_are_let_alone(high, tmp_path):
    path = tmp_path / "ids.bin"
    ids(high).astype(np.uint16).tofile(path)
    assert np.array_equal(load_ids(path)[0], ids(high))
    assert wider(np.zeros(999, np.uint16)) is None
    assert wider(np.arange(40, dtype=np.uint32).view(np.uint16)[:60]) is None  # too few to tell


def shard(path, magic, version, values, tokens=None):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(values) if tokens is None else tokens
    path.write_bytes(header.tobytes() + values.tobytes())


@pytest.mark.parametrize(("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")])
def test_a_shard_of_llm_c_is_read_behind_its_header(magic, version, dtype, tmp_path):
    path = tmp_path / "shard.bin"
    shard(path, magic, version, ids(50257).astype(dtype))
    with pytest.warns(UserWarning, match=r"header of llm\.c.*the 20000 uint(16|32) ids after it are read"):
        found, _ = load_ids(path)
    assert np.array_equal(found, ids(50257))
    assert isinstance(found.base, np.memmap)
    shard(path, magic, version, ids(50257).astype(dtype), tokens=30_000)
    with pytest.raises(ValueError, match=r"the header of llm\.c tells of 30000 ids.*is it whole"):
        load_ids(path)
    shard(path, magic, version + 1, ids(50257).astype(dtype))
    with pytest.raises(ValueError, match=rf"the header of llm\.c has version {version + 1}"):
        load_ids(path)
    shard(path, magic, version, np.zeros(0, dtype))
    with pytest.warns(UserWarning, match="the 0 uint"):
        assert load_ids(path)[0].shape == (0,)


def test_an_id_out_of_range_says_how_the_file_was_read(tmp_path):
    (ids(60_000).astype(np.uint16)).tofile(tmp_path / "ids.bin")
    config = loopos.ModelConfig(vocab_size=99, context_length=8, n_layer=1, n_head=2, d_model=8)
    with pytest.raises(IndexError, match=r"vocab_size is 99, and a \.bin file is read as uint16"):
        loopos.train(config, tmp_path / "ids.bin", progress=False)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 1115394\n"


@pytest.mark.parametrize("suffix", [".bin", ".npy"])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (POINTER + b"\n" * (len(POINTER) % 2), "a git-lfs pointer.*git lfs pull"),
        (gzip.compress(b"ab" * 999) + b"\0" * (len(gzip.compress(b"ab" * 999)) % 2), "compressed by gzip"),
        (b"PK\x03\x04" + bytes(996), "a ZIP archive"),
        (b"a line of a text\n" * 100, "a text that begins with 'a line of a text"),
    ],
    ids=["pointer", "gzip", "zip", "text"],
)
def test_what_holds_no_ids_is_named(data, said, suffix, tmp_path):
    path = tmp_path / f"ids{suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"expected a {suffix} file of .*ids|integers.*; this is {said}") as caught:
        load_ids(path)
    assert "allow_pickle" not in str(caught.value)


def test_an_array_of_halves_is_told(tmp_path):
    path = tmp_path / "ids.bin"
    ids(50304).astype(np.uint32).tofile(path)
    for data in (np.memmap(path, np.uint16, "r"), np.fromfile(path, np.uint16)):
        with pytest.warns(UserWarning, match=r"data: read as uint16, 50% of its ids are 0.*uint32 ids"):
            load_ids(data)
    rows = np.fromfile(path, np.uint32)
    for data in (rows, rows.astype(np.uint16), rows.astype(np.int64), np.arange(999) % 2 * 50):
        assert len(load_ids(data)[0]) == len(data)  # any warning is an error here
