"""The lines of a text of any encoding: bytes in, (line number, text) out, in bounded memory, whatever the bytes are.

A line is what ends in a newline, so that its number is the one an editor or ``grep -n`` shows. What a progress bar
writes over itself (after a carriage return, or backspaces) are pieces of one line, given one by one under its number.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import IO, BinaryIO

from loopos.files import durable

HEAD = TAIL = 8 << 20  # bytes read from the two ends of a longer file
_BLOCK = 1 << 16
_MOJIBAKE = re.compile("Ã.|â(?:€|œ|†|Œ|š)|ðŸ|ï»¿")
_REDRAW = re.compile("[\r\b]+")
_ESCAPE = (
    re.compile(  # of terminals, ECMA-48: colours and cursor (CSI), titles and links (OSC), others of two characters
        "(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b\\][^\x07\x1b]{0,512}(?:\x07|\x1b\\\\)?|\x1b[ -/]{0,2}[0-~]"
    )
)
_COLOUR = re.compile(
    r"(?:\^\[|␛|\\x1b|\\033|\\u001b|\\e)?\[\d{1,3}(?:;\d{1,3}){0,8}m"
)  # whose escape was lost or spelt
_INVISIBLE = re.compile("[\ufeff\u200b-\u200f\u2060]")
_MARKS = (  # of 32 bits first: their little-endian one begins like that of 16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_EASTERN = ((b"\xa3\xba", b"\xa3\xac", "gb18030"), (b"\x81\x46", b"\x81\x43", "cp932"))  # their colon and comma
_SPECIAL = re.compile("[\x1b\x9b\\[\r\b\ufeff\u200b-\u200f\u2060]")  # what :func:`_pieces` looks for
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00")


def lines_of(source: str | bytes | os.PathLike | IO, notes: list[str]) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of all that is not blank in a text, bytes, a file (Path) or a stream of bytes or text; what
    is odd about it goes to ``notes``. Of a file beyond HEAD + TAIL the two ends are read, and the lines between are
    counted.

    Without escape sequences and invisible characters; otherwise the text as it stands."""
    for file, size in _opened(source):
        number, rest = 1, ""
        for text in _Decoded(file, size, notes):
            if isinstance(text, int):  # lines that were passed over
                yield from _pieces(number, rest)
                number, rest = number + text, ""
                continue
            *whole, rest = (rest + text).split("\n")
            bare = not _SPECIAL.search(text) and not _SPECIAL.search(whole[0] if whole else "")
            for line in whole:
                if not bare:
                    yield from _pieces(number, line)
                elif line and not line.isspace():
                    yield number, line
                number += 1
            if len(rest) > _BLOCK:  # a line beyond all measure is looked at in parts
                cut = rest.rfind("\r") + 1 or rest.rfind(" ") + 1 or len(rest)
                yield from _pieces(number, rest[:cut])
                rest = rest[cut:]
        yield from _pieces(number, rest)


def text_of(data: bytes) -> str:
    """All of a text at once; what cannot be decoded is replaced."""
    return data.decode(_encoding_of(data[:4096], []) or "utf-8", "replace").lstrip("\ufeff")


def _pieces(number: int, line: str) -> Iterator[tuple[int, str]]:
    if "\x1b" in line or "\x9b" in line:
        line = _ESCAPE.sub("", line)
    if "[" in line:
        line = _COLOUR.sub("", line)
    if not line.isascii():
        line = _INVISIBLE.sub("", line)
    for piece in _REDRAW.split(line) if "\r" in line or "\b" in line else (line,):
        if piece and not piece.isspace():
            yield number, piece


def _opened(source: str | bytes | os.PathLike | IO) -> Iterator[tuple[BinaryIO, int | None]]:
    """(file, size where known)."""
    if isinstance(source, str):
        source = source.encode("utf-8", "surrogatepass")
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        yield io.BytesIO(data), len(data)
    elif isinstance(source, os.PathLike):
        with durable.open_regular(source) as (raw, size), durable.explained("read", source):
            yield io.BufferedReader(raw, 1 << 18), size
    elif isinstance(source, io.TextIOBase):
        yield getattr(source, "buffer", None) or io.BytesIO(source.read().encode("utf-8", "surrogatepass")), None
    else:
        yield source, None


class _Decoded:
    """The text of a file, in parts of any length; an int is a number of newlines that were not read."""

    def __init__(self, file: BinaryIO, size: int | None, notes: list[str]):
        self._file, self._size, self._notes = file, size, notes
        self._nul = self._foreign = self._mojibake = 0

    def __iter__(self) -> Iterator[str | int]:
        head = self._file.read(_BLOCK)
        self._encoding = _encoding_of(head, self._notes)
        decoder = codecs.getincrementaldecoder(self._encoding or "utf-8")("replace")
        decode = decoder.decode if self._encoding else self._plain
        if not self._encoding and head.startswith(_COMPRESSED):
            self._notes.append("this is a compressed file; unpack it first")
        long = self._size is not None and self._size > HEAD + TAIL
        read, rest, block = len(head), b"", head
        while block:
            rest += block
            cut = len(rest) if self._encoding else _whole(rest)
            yield decode(rest[:cut])
            rest = rest[cut:]
            if long and read >= HEAD:
                long = False
                yield decode(rest)
                rest = b""
                yield self._passed_over(self._size - TAIL)
                self._notes.append(
                    f"the file has {self._size} bytes; the first and the last {HEAD >> 20} MiB were read"
                )
            elif self._size is None and read >= HEAD + TAIL:
                self._notes.append(f"only the first {read} bytes were read")
                break
            block = self._file.read(_BLOCK)
            read += len(block)
        yield decode(rest)
        self._odd()

    def _passed_over(self, until: int) -> int:
        """The newlines from here to ``until``, where the file is left (at a whole character of 16 or 32 bits)."""
        newline = "\n".encode(self._encoding or "utf-8")
        until -= until % len(newline)
        count, here = 0, self._file.tell()
        while here < until and (block := self._file.read(min(_BLOCK, until - here))):
            here += len(block)
            count += block.count(newline)
        return count

    def _plain(self, data: bytes) -> str:
        """UTF-8, or what its lines are instead."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = "".join(map(self._line, data.splitlines(keepends=True)))
        if "\0" in text:
            self._nul += 1
            text = text.replace("\0", "")  # as of a part in UTF-16, which a shell has appended
        self._mojibake += not text.isascii() and bool(_MOJIBAKE.search(text))
        return text

    def _line(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self._foreign += 1
        for colon, comma, encoding in _EASTERN:
            if colon in data or comma in data:
                with contextlib.suppress(UnicodeDecodeError):
                    return data.decode(encoding)
        return data.decode("cp1252", "replace")

    def _odd(self) -> None:
        if self._nul:
            self._notes.append("it holds NUL bytes: this is not, or not only, text")
        if self._foreign:
            self._notes.append(f"{self._foreign} lines are not UTF-8 and were read as Windows-1252, GBK or Shift-JIS")
        if self._mojibake and not self._nul:
            self._notes.append(
                "UTF-8 was once read as Windows-1252 (mojibake such as “âœ…”): names and signs may be damaged"
            )


def _encoding_of(head: bytes, notes: list[str]) -> str | None:
    """The encoding of 16 or 32 bits that a text begins with, by its mark or by where its zeros are; else None."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            notes.append(f"the text is {encoding.upper()}, as PowerShell redirects it")
            return encoding
    found = _by_zeros(head[:4096])
    if found and found == _by_zeros(head[:32]):  # not only a part that was appended
        notes.append(f"the text is {found.upper()} without a byte order mark")
        return found
    return None


def _by_zeros(data: bytes) -> str | None:
    """The encoding of 16 or 32 bits whose zeros a text that is mostly ASCII has at the places where these are."""
    data = data[: len(data) & ~3]
    if len(data) < 8:
        return None
    zeros = [data[i::4].count(0) * 4 / len(data) for i in range(4)]  # their share at each of four places
    few, many = 0.05, 0.6
    places = {
        "utf-32-le": zeros[0] < few and min(zeros[2:]) > 0.95,
        "utf-32-be": zeros[3] < few and min(zeros[:2]) > 0.95,
        "utf-16-le": max(zeros[0::2]) < few and min(zeros[1::2]) > many,
        "utf-16-be": max(zeros[1::2]) < few and min(zeros[0::2]) > many,
    }
    return next((encoding for encoding, fits in places.items() if fits), None)


def _whole(data: bytes) -> int:
    """How many bytes of data are whole characters of UTF-8, as far as its last ones tell."""
    for i in range(1, min(4, len(data)) + 1):
        if data[-i] >= 0xC0:  # begins a character
            return len(data) - i
        if data[-i] < 0x80:
            break
    return len(data)
