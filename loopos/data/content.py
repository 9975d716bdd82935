"""What a file is, whatever its name says: the first bytes tell an archive, a picture or a pointer from a text.

Bytes that cannot be text are refused where they are given as a text; what may be meant brings a warning. With
tokenizer="bytes", asked for by name, nothing is refused.
"""

from __future__ import annotations

import json
import re
import warnings
from typing import NamedTuple

HEAD = 1 << 16  # bytes looked at
NULS, CONTROLS = 0.01, 0.02  # shares of a text beyond which it is remarkable; texts have none of either
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b\x00")) + b"\x7f"
_TELLING = 512  # bytes; of a shorter text no share is taken

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ\x00", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"\x04\x22\x4d\x18", "compressed by lz4"),
    (b"PK\x03\x04", "a ZIP archive (also .npz, .pt, .docx, .xlsx, .epub)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"%PDF-", "a PDF"),
    (b"\x93NUMPY", "a numpy array; call it .npy"),
    (b"PAR1", "a Parquet table"),
    (b"ARROW1", "an Arrow table"),
    (b"FEA1", "a Feather table"),
    (b"Obj\x01", "an Avro table"),
    (b"GGUF", "a GGUF model"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.doc, .xls, .ppt)"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF87a", "a GIF picture"),
    (b"GIF89a", "a GIF picture"),
    (b"RIFF", "a RIFF file (sound, video or WebP)"),
    (b"OggS", "an Ogg file (sound or video)"),
    (b"ID3", "MP3 sound"),
    (b"fLaC", "FLAC sound"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ\x90\x00", "a program (Windows)"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xca\xfe\xba\xbe", "a program (Java or Mach-O)"),
    (b"\x00asm", "a program (WebAssembly)"),
)
# Longest first: the mark of UTF-32 in little-endian order begins as that of UTF-16 does.
MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
TABLES = {
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".csv": "a table (CSV)",
    ".tsv": "a table (TSV)",
}
_PICKLE = re.compile(rb"\x80[\x02-\x05]([\x95cX(}\]q\x8a]|.\x95)", re.S)
_PAGE = re.compile(rb"\s*(<!doctype\s+html|<html[\s>])", re.I)
LFS = b"version https://git-lfs.github.com/spec/v"


class Remark(NamedTuple):
    """says: what the bytes are, to follow "this is"; what to do; binary: they cannot be text."""

    says: str
    advice: str
    binary: bool = False

    def __str__(self) -> str:
        return f"this is {self.says}; {self.advice}"


def look(data: bytes, suffix: str = "") -> Remark | None:
    """What is remarkable about bytes that are given as a text; None of a text in any encoding that extends ASCII.

    suffix: of the file's name, lower case, with its dot."""
    head = bytes(data[:HEAD])
    for mark, kind in MARKS:
        if head.startswith(mark) and len(head) > len(mark):
            return Remark(f"text in {kind}, of which bytes of 0 are a large part", "save it as UTF-8")
    if kind := _binary(head):
        return Remark(kind, "unpack it or take the text out of it first, as UTF-8", binary=True)
    if head.startswith(LFS):
        return Remark("a git-lfs pointer, which stands for a file that was not fetched", "run: git lfs pull")
    if _PAGE.match(head) and suffix not in (".html", ".htm", ".xhtml"):
        return Remark("an HTML page, such as a server sends in place of a file", "download the file itself")
    if head.startswith(b"{\\rtf"):
        return Remark("rich text (RTF)", "save it as plain text")
    if (kind := TABLES.get(suffix)) or (kind := "JSON lines" if _json_lines(head) else None):
        return Remark(
            f"{kind}, and its names, quotes and commas are learned as text",
            "only plain text, .npy and .bin are read today: write the texts alone to a file if they are meant",
        )
    return _odd(head)


def _binary(head: bytes) -> str | None:
    for signature, kind in SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive"
    if _PICKLE.match(head):
        return "a Python pickle (also an old .pt)"
    if len(head) > 10 and head[8:10] == b'{"' and 0 < int.from_bytes(head[:8], "little") < 1 << 32:
        return "a safetensors file"
    if head[4:8] == b"ftyp":
        return "an MP4 file (video, sound or HEIC)"
    return None


def _json_lines(head: bytes) -> bool:
    lines = [line for line in head.split(b"\n")[:-1] if line.strip()][:3]
    return len(lines) > 1 and all(_is_object(line) for line in lines)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _odd(head: bytes) -> Remark | None:
    """No known kind, but bytes that no text has."""
    size = len(head)
    if size < _TELLING:
        return None
    nuls = head.count(0)
    if nuls > NULS * size:
        halves = [head[at::2].count(0) for at in (0, 1)]
        if nuls > 0.25 * size and min(halves) < 0.1 * max(halves):
            return Remark("text in UTF-16 without its mark: every second byte is 0", "save it as UTF-8")
        return Remark(
            f"no text: {nuls} of its first {size} bytes are 0", "look at the file: was it written to its end?"
        )
    controls = size - len(head.translate(None, _CONTROL))
    if controls > CONTROLS * size:
        text = (
            f"no text: {controls} of its first {size} bytes are control characters, as in compressed or encrypted data"
        )
        return Remark(text, "look at where it comes from")
    return None


def examine(data: bytes, name: str, suffix: str, *, bytes_meant: bool) -> None:
    """ValueError for a file that cannot be text, a UserWarning for one that hardly is meant as one. bytes_meant: the
    byte tokenizer was asked for by name, so that anything may be learned; it is told all the same."""
    remark = look(data, suffix)
    if remark is None:
        return
    if remark.binary and not bytes_meant:
        raise ValueError(f"{name}: {remark}. To learn its bytes as they are, give tokenizer='bytes'")
    warnings.warn(f"{name}: {remark}", UserWarning, stacklevel=2)
