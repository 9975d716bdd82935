"""loopos/gguf/container.py: every claim of a file is checked; a file that lies is one clear error."""

import struct
import tracemalloc

import numpy as np
import pytest

import loopos
from loopos import CheckpointError
from loopos.gguf.container import open_container

TEXT, U32, LIST = 8, 4, 9


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def tensor(name, shape, kind, offset, dims=None):
    return (
        text(name)
        + struct.pack("<I", len(shape) if dims is None else dims)
        + b"".join(struct.pack("<Q", n) for n in shape)
        + struct.pack("<IQ", kind, offset)
    )


def file(tmp_path, pairs=(), tensors=(), data=b"", *, version=3, counts=None, magic=b"GGUF", align=32):
    counts = (len(tensors), len(pairs)) if counts is None else counts
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(tensors)
    path = tmp_path / "model.gguf"
    path.write_bytes(head + bytes(-len(head) % align) + data)
    return path


def test_what_is_in_a_sound_file(tmp_path):
    pairs = [
        pair("a", TEXT, text("ä")),
        pair("b", U32, struct.pack("<I", 7)),
        pair("c", 7, b"\x01"),
        pair("d", 6, struct.pack("<f", 0.5)),
        pair("e", LIST, struct.pack("<IQ", TEXT, 2) + text("x") + text("")),
        pair("f", LIST, struct.pack("<IQ", 5, 2) + struct.pack("<ii", -1, 2)),
        pair("general.alignment", U32, struct.pack("<I", 64)),
    ]
    tensors = [tensor("w", (3, 2), 0, 64), tensor("v", (2,), 1, 0)]
    numbers = np.arange(6, dtype="<f4")
    data = np.array([1, 2], "<f2").tobytes().ljust(64, b"\0") + numbers.tobytes()
    found = open_container(file(tmp_path, pairs, tensors, data, align=64))
    assert {k: v for k, v in found.metadata.items() if k != "f"} == {
        "a": "ä", "b": 7, "c": True, "d": 0.5, "e": ["x", ""], "general.alignment": 64,
    }  # fmt: skip
    assert found.metadata["f"].tolist() == [-1, 2]
    w = found.tensors["w"]
    assert (w.shape, w.type.name, w.bytes) == ((2, 3), "F32", 24)
    assert (found.raw(w, 0, 2).view("<f4") == numbers.reshape(2, 3)).all()
    assert (found.raw(w, 1, 1).view("<f4") == numbers[3:]).all()


BIG = 2**60
KEY = pair("k", U32, struct.pack("<I", 1))
CASES = {
    "no gguf": ({"magic": b"GGUX"}, "no GGUF file"),
    "version 9": ({"version": 9}, "version 9 is not supported"),
    "big-endian": ({"version": 3 << 24}, "a big-endian file is not supported"),
    "counts beyond the file": ({"counts": (0, BIG)}, f"{BIG} metadata are claimed"),
    "tensors beyond the file": ({"counts": (BIG, 0)}, f"{BIG} tensors are claimed"),
    "a long name": ({"pairs": [struct.pack("<Q", BIG) + b"kk"]}, "claimed to have .* bytes"),
    "a long text": ({"pairs": [text("k") + struct.pack("<IQ", TEXT, BIG)]}, "claimed to have .* bytes"),
    "a text beyond the end": ({"pairs": [text("k") + struct.pack("<IQ", TEXT, 999)]}, "ends within"),
    "a long list": ({"pairs": [text("k") + struct.pack("<IIQ", LIST, 6, BIG)]}, "numbers of 'k' are claimed"),
    "many texts": ({"pairs": [text("k") + struct.pack("<IIQ", LIST, TEXT, BIG)]}, "texts of 'k' are claimed"),
    "a list of lists": ({"pairs": [text("k") + struct.pack("<IIQ", LIST, LIST, 1) + bytes(12)]}, "list of the type 9"),
    "an unknown type": ({"pairs": [text("k") + struct.pack("<I", 77) + bytes(8)]}, "unknown type 77"),
    "a truth value of 2": ({"pairs": [pair("k", 7, b"\x02")]}, "a truth value of 2"),
    "twice the same": ({"pairs": [KEY, KEY]}, "'k' occurs twice"),
    "no UTF-8": ({"pairs": [pair("k", TEXT, text(b"\xff"))]}, "not UTF-8"),
    "alignment 0": ({"pairs": [pair("general.alignment", U32, bytes(4))]}, "must be a power of two"),
    "alignment 48": ({"pairs": [pair("general.alignment", U32, struct.pack("<I", 48))]}, "must be a power of two"),
    "alignment 2^31": ({"pairs": [pair("general.alignment", U32, struct.pack("<I", 2**31))]}, "power of two up to"),
    "alignment of another type": ({"pairs": [pair("general.alignment", TEXT, text("32"))]}, "must be a power of two"),
    "no dimension": ({"tensors": [tensor("w", (), 0, 0)]}, "has 0 dimensions"),
    "many dimensions": ({"tensors": [tensor("w", (), 0, 0, dims=2**31)]}, "dimensions; expected 1 to 4"),
    "an unknown storage": ({"tensors": [tensor("w", (32,), 99, 0)], "data": bytes(64)}, "of the type 99"),
    "a storage not read": ({"tensors": [tensor("w", (256,), 11, 0)], "data": bytes(64)}, "type Q3_K; these are read"),
    "an empty tensor": ({"tensors": [tensor("w", (0, 4), 0, 0)]}, "does not fit"),
    "a huge tensor": ({"tensors": [tensor("w", (BIG, BIG), 0, 0)], "data": bytes(64)}, "does not fit"),
    "half a block": ({"tensors": [tensor("w", (48,), 8, 0)], "data": bytes(64)}, "not whole blocks of 32"),
    "an odd offset": ({"tensors": [tensor("w", (2,), 0, 4)], "data": bytes(64)}, "no multiple of 32"),
    "an offset beyond": ({"tensors": [tensor("w", (2,), 0, 2**40)], "data": bytes(64)}, "before the end of tensor"),
    "a cut file": ({"tensors": [tensor("w", (32,), 0, 0)], "data": bytes(100)}, "before the end of tensor 'w'"),
    "overlap": ({"tensors": [tensor(n, (16,), 0, 32 * i) for i, n in enumerate("ab")], "data": bytes(128)}, "overlaps"),
    "two of one name": ({"tensors": [tensor("w", (8,), 0, 32 * i) for i in (0, 1)], "data": bytes(64)}, "occurs twice"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_lies_is_refused_and_nothing_of_that_size_is_made(case, tmp_path):
    given, message = CASES[case]
    path = file(tmp_path, **given)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message) as refused:
            open_container(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert str(refused.value).count("\n") == 0
    assert refused.value.path == str(path) or str(path) in str(refused.value)


def test_what_is_something_else_is_named(tmp_path):
    for content in (b"", b"GG", b"PK\x03\x04" + bytes(60), b"version https://git-lfs.github.com/spec/v1\n"):
        path = tmp_path / "x.gguf"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="no GGUF file"):
            open_container(path)
    with pytest.raises(FileNotFoundError):
        open_container(tmp_path / "none")
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_container(tmp_path)


def test_every_beginning_of_a_file_is_refused(llama, tmp_path):
    loopos.gguf.write(llama(), tmp_path / "m.gguf", "f32")
    whole = (tmp_path / "m.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for end in [*range(0, 400, 7), *range(400, len(whole), len(whole) // 60)]:
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError):
            open_container(path)


def test_mutants_are_refused_or_read(llama, tmp_path):
    """Of more than a thousand changed files come models, and errors that name the file: nothing else."""
    loopos.gguf.write(llama(n_layer=1, d_model=32, d_ff=32), tmp_path / "m.gguf", "q8_0")
    whole, rng, path = (tmp_path / "m.gguf").read_bytes(), np.random.default_rng(5), tmp_path / "mutant.gguf"
    start = whole.index(b"token_embd.weight")
    outcomes = {"refused": 0, "read": 0}
    for number in range(1500):
        mutant = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(24)) if number % 5 == 0 else int(rng.integers(start - 200, start + 800))
            at = int(rng.integers(len(whole))) if number % 3 == 0 else at
            match rng.integers(5):
                case 0:
                    mutant[at] ^= 1 << int(rng.integers(8))
                case 1:
                    mutant[at : at + 8] = struct.pack("<Q", int(rng.choice([0, 1, 31, 2**16, 2**31, 2**62])))
                case 2:
                    del mutant[at : at + int(rng.integers(1, 40))]
                case 3:
                    mutant[at:at] = mutant[at : at + int(rng.integers(1, 40))]
                case _:
                    mutant[at] = int(rng.integers(256))
        path.write_bytes(mutant)
        try:
            loopos.gguf.read(path)
            outcomes["read"] += 1
        except ValueError as error:
            outcomes["refused"] += str(path) in str(error)
    assert sum(outcomes.values()) == 1500
    assert outcomes["refused"] > 500, outcomes
    assert outcomes["read"] > 100, outcomes
