"""Files of token ids: .npy, and .bin, which is bare uint16 ids or a shard of llm.c. Both are memory-mapped."""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from loopos.files import kinds

SUFFIXES = (".npy", ".bin")
SAMPLED_IDS = 1 << 18  # ids, from the start of a .bin file, of which the width is judged
FEWEST = 64  # ids; of fewer nothing is judged
SMALL = 15  # the upper halves of ids below 2**20, which is more than any vocabulary
# llm.c (dev/data/data_common.py): 256 int32 before the ids: magic number, version, number of tokens.
LLMC_HEADER = 256 * 4
LLMC_KINDS = {(20240520, 1): "<u2", (20240801, 7): "<u4"}


def read_npy(path: Path, name: str) -> np.ndarray:
    """The array of a .npy file; what numpy cannot read, or an archive: ValueError. A pickle is never opened."""
    head = _head(path)
    if not head.startswith(b"\x93NUMPY") and (kind := kinds.weights_kind_of(head)) is not None:
        raise ValueError(f"{name}: expected a .npy file of integers; this is {kind}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:  # the file cannot be opened: says so itself
        raise
    except Exception as error:  # numpy parses the header as Python, so a damaged one may raise almost anything
        raise ValueError(f"{name}: expected a .npy file of integers, got a file numpy cannot read: {error}") from None
    if not isinstance(array, np.ndarray):  # a .npz archive under another name
        array.close()
        raise ValueError(f"{name}: expected a .npy file with one array, got an archive")
    return array


def read_bin(path: Path, name: str) -> np.ndarray:
    """The ids (N,) of a .bin file: uint16, or as the header of llm.c says. A size that cannot be, or a header that
    does not fit it: ValueError. A UserWarning tells of a header, and of ids that look wider than uint16."""
    size = path.stat().st_size
    if size % 2:
        raise ValueError(f"{name}: a .bin file holds uint16 ids, 2 bytes each, got {size} bytes, an odd number")
    if size == 0:
        return np.zeros(0, np.uint16)  # 0 bytes cannot be mapped
    if (shard := _llmc(path, name, size)) is not None:
        return shard
    if (kind := kinds.ids_kind_of(_head(path))) is not None:
        raise ValueError(f"{name}: expected a .bin file of uint16 ids; this is {kind}")
    ids = np.asarray(np.memmap(path, dtype="<u2", mode="r"))
    tell_width(ids, name)
    return ids


def give_back(read: Any) -> None:
    """Pages of a mapped file that were read need not stay in memory; they are mapped again when asked for. read: ids,
    or the mapping; nothing is done for what is in no file."""
    owner = read
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):
        with memoryview(owner) as pages:
            read_only = pages.readonly  # else there may be numbers that are in no file
        if read_only:
            owner.madvise(mmap.MADV_DONTNEED)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(kinds.HEAD)


def tell_width(ids: np.ndarray, name: str) -> None:
    """A UserWarning when ``ids`` (N,) of uint16 look like pieces of wider ones."""
    if ids.dtype.itemsize != 2 or (width := wider(ids)) is None:
        return
    kind, turn = {2: ("uint32", "second"), 4: ("int64", "fourth")}[width]
    zeros = float(np.mean(ids[:SAMPLED_IDS] == 0))
    warnings.warn(
        f"{name}: read as uint16, {zeros:.0%} of its ids are 0 and only every {turn} one is large, so these are "
        f"{kind} ids; pass np.memmap(path, dtype=np.{kind}, mode='r'), or save them as .npy, which knows its type",
        UserWarning,
        stacklevel=3,
    )


def wider(ids: np.ndarray) -> int | None:
    """2 or 4 when uint16 ``ids`` (N,) are the pieces of ids twice or four times as wide, lowest first; else None."""
    piece = ids[: min(len(ids), SAMPLED_IDS) // 4 * 4].reshape(-1, 4)
    if piece.size < FEWEST:
        return None
    large = (piece > SMALL).mean(axis=0)
    if large[0] > 0.5 and large[1] == 0 and not piece[:, 2:].any():
        return 4
    if min(large[0], large[2]) > 0.5 and max(large[1], large[3]) == 0:
        return 2
    return None


def _llmc(path: Path, name: str, size: int) -> np.ndarray | None:
    """The ids behind the header of llm.c; None when the file does not begin with one."""
    if size < LLMC_HEADER:
        return None
    magic, version, tokens = (int(value) for value in np.fromfile(path, dtype="<i4", count=3))
    if magic not in {known for known, _ in LLMC_KINDS}:
        return None
    dtype = LLMC_KINDS.get((magic, version))
    if dtype is None:
        raise ValueError(f"{name}: the header of llm.c has version {version}, known are {sorted(LLMC_KINDS)}")
    expected = LLMC_HEADER + tokens * np.dtype(dtype).itemsize
    if size != expected:
        raise ValueError(
            f"{name}: the header of llm.c tells of {tokens} ids, which make a file of {expected} bytes, got {size}; "
            "is it whole?"
        )
    warnings.warn(
        f"{name}: begins with the header of llm.c (256 int32); the {tokens} {np.dtype(dtype).name} ids after it are "
        "read",
        UserWarning,
        stacklevel=3,
    )
    ids = np.memmap(path, dtype=dtype, mode="r", offset=LLMC_HEADER) if tokens else np.zeros(0, dtype)
    return np.asarray(ids)
