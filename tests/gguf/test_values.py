"""loopos/gguf/values.py: metadata of the right type, and the numbers of every storage type."""

import numpy as np
import pytest

from loopos import CheckpointError
from loopos.gguf.container import TYPES, open_container
from loopos.gguf.values import Metadata, read_into

gguf = pytest.importorskip("gguf", reason="the extra [gguf]")

KINDS = gguf.GGUFValueType


@pytest.fixture
def made(tmp_path):
    """made(tensors, **metadata): a file with these, by the writer of the gguf package."""

    def make(tensors=(), **metadata):
        writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
        for key, (value, kind) in metadata.items():
            writer.add_key_value(key, value, kind)
        for name, array, raw in tensors:
            writer.add_tensor(name, array, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return open_container(tmp_path / "m.gguf")

    return make


def test_metadata_of_the_right_type(made):
    metadata = Metadata(
        made(
            t=("x", KINDS.STRING),
            n=(7, KINDS.UINT32),
            r=(1e-5, KINDS.FLOAT32),
            b=(True, KINDS.BOOL),
            many=([3, 3], KINDS.ARRAY),
            each=([3, 4], KINDS.ARRAY),
            texts=(["a"], KINDS.ARRAY),
            llama_x=(1, KINDS.UINT32),
        )
    )
    assert metadata.arch == "llama"
    assert (metadata.text("t"), metadata.count("n"), metadata.flag("b")) == ("x", 7, True)
    assert metadata.real("r") == 1e-5  # a float32 in the file
    assert metadata.real("n") == 7.0
    assert metadata.count("many") == metadata.count("{arch}_y", 3) == 3
    assert metadata.count("{arch}_x") == 1
    assert metadata.texts("texts") == ["a"]
    assert metadata.numbers("each").tolist() == [3, 4]
    with pytest.raises(ValueError, match="each differs between layers"):
        metadata.count("each")
    with pytest.raises(CheckpointError, match="the metadatum none is missing"):
        metadata.text("none")
    for ask, key, said in (
        (metadata.text, "n", "n must be a text, got 7"),
        (metadata.count, "t", "t must be an integer of at least 1, got 'x'"),
        (metadata.count, "b", "b must be an integer"),
        (metadata.real, "b", "b must be a finite number"),
        (metadata.flag, "n", "n must be true or false"),
        (metadata.texts, "many", "many must be a list of texts"),
        (metadata.numbers, "texts", "texts must be a list of numbers"),
    ):
        with pytest.raises(CheckpointError, match=said):
            ask(key)


@pytest.mark.parametrize("kind", [block.name for block in TYPES.values()])
def test_the_numbers_of_every_storage_type(kind, made, monkeypatch):
    monkeypatch.setattr("loopos.gguf.values._NUMBERS", 3 * 512)  # several pieces
    rng = np.random.default_rng(2)
    block = next(block for block in TYPES.values() if block.name == kind)
    if kind in ("F32", "F16", "BF16"):
        numbers = rng.standard_normal((7, 512)).astype(np.float32)
        raw = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType[kind])
        expected = {"F32": numbers, "F16": numbers.astype(np.float16).astype(np.float32)}.get(kind)
    else:  # any bytes, but for the scales, which are halves
        raw = rng.integers(0, 256, (7, 512 // block.numbers, block.bytes)).astype(np.uint8)
        at = {"Q6_K": (208,), "Q4_K": (0, 2), "Q4_1": (0, 2), "Q5_1": (0, 2)}.get(kind, (0,))
        for place in at:
            scales = rng.standard_normal(raw.shape[:2]).astype("<f2")
            raw[..., place : place + 2] = scales.view(np.uint8).reshape(*raw.shape[:2], 2)
        raw, expected = raw.reshape(7, -1), None
    container = made([("w", raw, gguf.GGMLQuantizationType[kind])])
    stored = container.tensors["w"]
    assert (stored.shape, stored.type.name) == ((7, 512), kind)
    out = np.empty((7, 512), np.float32)
    read_into(container, stored, out)
    if expected is None:
        expected = _by_hand(kind, raw)
    np.testing.assert_array_equal(out, expected)
    wide = np.empty((512, 7), np.float64).T  # neither float32 nor dense
    read_into(container, stored, wide)
    np.testing.assert_array_equal(wide, out)
    assert np.isfinite(out).all()
    assert out.std() > 0


def _by_hand(kind, raw):
    """The formulas of ggml-quants.c, number by number of a block."""
    if kind == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    block = next(block for block in TYPES.values() if block.name == kind)
    rows = [[_block(kind, bytes(part)) for part in row.reshape(-1, block.bytes)] for row in raw]
    return np.array(rows, np.float32).reshape(len(raw), -1)


def _block(kind, b):
    half = lambda at: np.frombuffer(b, "<f2", 1, at)[0].astype(np.float32)  # noqa: E731
    if kind == "Q8_0":
        return half(0) * np.frombuffer(b, np.int8, 32, 2).astype(np.float32)
    if kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        scales, high = (4 if kind.endswith("1") else 2), kind[1] == "5"
        bits = int.from_bytes(b[scales : scales + 4], "little") if high else 0
        packed = b[scales + 4 * high :]
        low = [byte & 15 for byte in packed] + [byte >> 4 for byte in packed]
        values = np.array([n | ((bits >> i) & 1) << 4 for i, n in enumerate(low)], np.float32)
        return half(0) * values + half(2) if scales == 4 else half(0) * (values - (16 if high else 8))
    if kind == "Q4_K":
        out, s = [], b[4:16]
        for i in range(8):
            scale = s[i] & 63 if i < 4 else (s[i + 4] & 15) | (s[i - 4] >> 6) << 4
            least = s[i + 4] & 63 if i < 4 else (s[i + 4] >> 4) | (s[i] >> 6) << 4
            part = b[16 + 32 * (i // 2) : 48 + 32 * (i // 2)]
            values = np.array([(byte >> 4 * (i % 2)) & 15 for byte in part], np.float32)
            out.append((half(0) * np.float32(scale)) * values - half(2) * np.float32(least))
        return np.concatenate(out)
    assert kind == "Q6_K"
    low, high, scales = b[:128], b[128:192], np.frombuffer(b, np.int8, 16, 192)
    out = np.empty(256, np.float32)
    for n in range(256):
        side, rest = divmod(n, 128)
        quarter, at = divmod(rest, 32)
        nibble = low[64 * side + 32 * (quarter % 2) + at] >> 4 * (quarter // 2) & 15
        value = (nibble | (high[32 * side + at] >> 2 * quarter & 3) << 4) - 32
        out[n] = (half(208) * np.float32(scales[n // 16])) * np.float32(value)
    return out
