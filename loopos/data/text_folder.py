"""A folder of text files as training data that is never read as a whole: a batch reads and encodes its own pieces.

A piece is ``PIECE`` bytes a token of one file, cut where a character begins, and gives one row; what of it is too long
for the row is left out, and a row that it does not fill ends with ignored targets. So a batch is a pure function of
(step, micro), as for every other data, however large the folder is.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks
from loopos.files import kinds

from .batches import Batch
from .held_out import IGNORE
from .order import Order

SUFFIXES = (".md", ".text", ".txt")
PIECE = 4  # bytes a token: about what English has with a vocabulary of tens of thousands
_LONGEST = 3  # bytes after the first of a character in UTF-8


class TextFolder:
    """The ``.txt``, ``.text`` and ``.md`` files of a folder, folders in it included, in the order of their names.

    tokenizer: has encode(text) -> ids. seq_len: tokens of a row; each file gives one row for every 4 (seq_len + 1)
    bytes, its rest included where it is as long as a quarter of that. Rows come in an order that depends on seed and
    epoch alone. FileNotFoundError without a folder; ValueError where no file has a piece, or one is no text."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        tokenizer: Any,
        *,
        seq_len: int,
        batch_size: int = 1,
        grad_accum: int = 1,
        seed: int = 1337,
    ):
        self._folder, self._tokenizer = Path(folder), tokenizer
        self._seq_len = checks.count("TextFolder", "seq_len", seq_len)
        self.batch_size = checks.count("TextFolder", "batch_size", batch_size)
        self._grad_accum = checks.count("TextFolder", "grad_accum", grad_accum)
        self._bytes = PIECE * (self._seq_len + 1)
        self._files = _text_files(self._folder)
        counts = [_pieces(path.stat().st_size, self._bytes) for path in self._files]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self.pieces = int(self._ends[-1]) if counts else 0
        if self.pieces == 0:
            raise ValueError(
                f"data (folder {folder}): none of its {len(self._files)} text files has the {self._bytes // 4} bytes "
                f"that a row of {self._seq_len} tokens begins with; give more text or a smaller seq_len"
            )
        self._order = Order(self.pieces, checks.integer("TextFolder", "seed", seed, low=0, high=2**64 - 1))

    def __len__(self) -> int:
        """Updates an epoch."""
        return -(-self.pieces // (self.batch_size * self._grad_accum))

    def batch(self, step: int, micro: int) -> Batch:
        """(ids, targets), int64 (batch_size, seq_len), of micro-batch ``micro`` of update ``step``, both from 0."""
        return self.part(step, micro, 0, self.batch_size)

    def part(self, step: int, micro: int, first: int, last: int) -> Batch:
        """Rows [first, last) of that batch; no other pieces are read."""
        ids = np.zeros((last - first, self._seq_len), np.int64)
        targets = np.full_like(ids, IGNORE)
        number = step * self._grad_accum + micro
        for row, piece in enumerate(self._order.batch(number, self.batch_size)[first:last]):
            tokens = np.asarray(self._tokenizer.encode(self.text(int(piece))), np.int64)[: self._seq_len + 1]
            filled = max(0, len(tokens) - 1)
            ids[row, :filled], targets[row, :filled] = tokens[:-1], tokens[1:]
        return ids, targets

    def text(self, piece: int) -> str:
        """That of piece number ``piece`` of all the files, from 0."""
        file = int(np.searchsorted(self._ends, piece, side="right"))
        path, first = self._files[file], piece - (int(self._ends[file - 1]) if file else 0)
        with path.open("rb") as opened:
            opened.seek(first * self._bytes)
            data = opened.read(self._bytes + _LONGEST)
        begin = _character(data, 0) if first else 0
        try:
            return data[begin : _character(data, self._bytes)].decode("utf-8")
        except UnicodeDecodeError as error:
            at = first * self._bytes + begin + error.start
            raise ValueError(f"data (file {path}): byte {at} is not UTF-8; convert the file, or leave it out") from None


def _text_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "streaming reads a folder of text files, and there is none", str(folder))
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise ValueError(f"data (folder {folder}): streaming reads {', '.join(SUFFIXES)} files, and it has none")
    for path in found:
        with path.open("rb") as opened:
            head = opened.read(kinds.HEAD)
        if (kind := kinds.binary_kind(head) or kinds.encoding_of(head)) is not None:
            raise ValueError(f"data (file {path}): expected text in UTF-8; this is {kind}")
    return found


def _pieces(size: int, each: int) -> int:
    whole, rest = divmod(size, each)
    return whole + (4 * rest >= each)


def _character(data: bytes, at: int) -> int:
    """The first place from ``at`` on where a character begins, or the end."""
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += 1
    return min(at, len(data))
