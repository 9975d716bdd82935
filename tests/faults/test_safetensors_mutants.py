"""Thousands of deterministic mutants of sound safetensors files: refused, or read as the library reads them."""

import json
import struct

import numpy as np
import safetensors

from loopos.errors import CheckpointError
from loopos.files.tensorfile import DTYPES, parse_safetensors, serialize_safetensors

INTERESTING = [0, 1, -1, 2, 4, 8, 31, 2**16, 2**31, 2**32, 2**53, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64]
INTERESTING += [1.0, 1e308, None, True, "1", [], {}, [0], "F32", "BF16", "F64", "BOOL", "I64", "__metadata__", "\ud800"]


def _seeds() -> list[bytes]:
    rng = np.random.default_rng(1)
    one = {"w": rng.standard_normal((3, 5)).astype(np.float32)}
    many = {name: np.ones((2, i), dtype) for i, (name, dtype) in enumerate(DTYPES.items()) if name != "BF16"}
    return [serialize_safetensors(one), serialize_safetensors(many, {"format": "pt"}), serialize_safetensors({})]


def _in_header(data: bytes, rng) -> bytes:
    """Exchange one value somewhere in the header, or give it another name."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    place = header
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = keys[rng.integers(len(keys))]
        if isinstance(place[key], (dict, list)) and rng.random() < 0.8:
            place = place[key]
            continue
        value = INTERESTING[rng.integers(len(INTERESTING))]
        if isinstance(place, dict) and rng.random() < 0.2:
            place[str(value)] = place.pop(key)
        else:
            place[key] = value
        break
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _in_bytes(data: bytes, rng) -> bytes:
    mutant = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(mutant) + 1))
        match rng.integers(5):
            case 0 if at < len(mutant):
                mutant[at] ^= 1 << int(rng.integers(8))
            case 1 if at < len(mutant):
                mutant[at] = rng.choice(list(b'[]{}",:0129-\\ \x00\xff'))
            case 2:
                del mutant[at:]
            case 3:
                mutant[at:at] = mutant[at : at + int(rng.integers(1, 20))]
            case _:
                del mutant[at : at + int(rng.integers(1, 20))]
    return bytes(mutant)


def _read(data: bytes):
    try:
        return parse_safetensors(np.frombuffer(data, np.uint8), "x")[0], None
    except CheckpointError as error:
        return None, error


def test_mutants():
    rng = np.random.default_rng(20250)
    accepted = refused = 0
    for seed in _seeds():
        for i in range(2500):
            mutant = (_in_header if i % 2 else _in_bytes)(seed, rng)
            tensors, error = _read(mutant)
            if error is not None:
                refused += 1
                str(error).encode("utf-8")  # it can be printed, whatever names the file had
                assert error.what
                assert error.offset is None or 0 <= error.offset <= len(mutant)
                continue
            accepted += 1
            library = dict(safetensors.deserialize(mutant))
            assert {
                name: (tensor.dtype, list(tensor.array.shape), tensor.array.tobytes())
                for name, tensor in tensors.items()
            } == {name: (view["dtype"], list(view["shape"]), bytes(view["data"])) for name, view in library.items()}
    assert accepted > 300
    assert refused > 4000
