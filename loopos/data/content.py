"""What a file is, whatever its name says: the first bytes tell an archive, a picture or a pointer from a text.

Bytes that cannot be text are refused where they are given as a text; what may be meant brings a warning. With
tokenizer="bytes", asked for by name, nothing is refused.
"""

from __future__ import annotations

import json
import warnings
from typing import NamedTuple

from loopos.files import kinds

HEAD = 1 << 16  # bytes looked at
NULS, CONTROLS = 0.01, 0.02  # shares of a text beyond which it is remarkable; texts have none of either
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b\x00")) + b"\x7f"
_TELLING = 512  # bytes; of a shorter text no share is taken

TABLES = {".json": "JSON", ".tsv": "a table (TSV)"}
EXAMPLES = (
    "to learn examples, name the file .jsonl (an object a line), .csv or .parquet; else write the texts alone to a file"
)


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
    if encoding := kinds.encoding_of(head):
        return Remark(f"text in {encoding}, of which bytes of 0 are a large part", "save it as UTF-8")
    if kind := kinds.binary_kind(head):
        return Remark(kind, "unpack it or take the text out of it first, as UTF-8", binary=True)
    if kinds.is_pointer(head):
        return Remark("a git-lfs pointer, which stands for a file that was not fetched", "run: git lfs pull")
    if kinds.is_page(head) and suffix not in (".html", ".htm", ".xhtml"):
        return Remark("an HTML page, such as a server sends in place of a file", "download the file itself")
    if head.startswith(b"{\\rtf"):
        return Remark("rich text (RTF)", "save it as plain text")
    if (kind := TABLES.get(suffix)) or (kind := "JSON lines" if _json_lines(head) else None):
        return Remark(
            f"{kind}, and its names, quotes and commas are learned as text",
            EXAMPLES,
        )
    return _odd(head)


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
