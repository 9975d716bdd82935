"""Numbers out of a log of any trainer: bytes in, :class:`Log` out, in bounded memory, whatever the bytes are.

A line becomes zero or more :class:`Record` of canonical names, from ``key: value`` in any of the usual spellings, from
JSON, and from tables (CSV or Markdown) whose header names a loss:

    loss             of training; one column of the log, chosen once
    eval_loss        of held-out data; one column of the log too
    grad_norm, learning_rate, step, epoch, accuracy, loss_scale, vocab_size, valid_tokens
    nonfinite        updates refused so far, of a run of LoopOS
    skipped_iterations, nan_iterations    counters of this entry (Megatron)

A number that is not there (``null``, ``None``) has no key; only in LoopOS's own log does null stand for NaN. 0.0 is a
number. Other names whose value is not finite, and norms such as ``||R||_F: 3.4e12``, are kept under their own name.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from loopos.files import durable

HEAD = TAIL = 8 << 20  # bytes read from the two ends of a longer file
MAX_RECORDS = 20_000
_LINE = 1 << 16

_NUMBER = (
    r"(?P<number>[-+]?(?:1\.#\w+|nan(?:\(\w*\))?|inf(?:inity)?(?![a-z])"
    r"|(?:\d{1,3}(?:,\d{3})+|\d[\d_]{0,40})(?:\.\d{0,40})?(?:e[-+]?\d{1,5})?|\.\d{1,40}(?:e[-+]?\d{1,5})?)"
    r"(?:\s?[×x*]\s?10\s?(?:\^|\*\*)\s?\{?[-+]?\d{1,4}\}?)?|null\b|none\b)"
)
_NAMES = {  # canonical: the spellings
    "eval_loss": r"(?:eval|val|valid|validation|test|dev)(?:uation)?[ _/.-]?loss|loss[/_.](?:eval|val|valid|test)",
    "loss": r"(?<!mean )(?<!average )"
    r"(?:(?:train|training|lm|nll|ce|cross[ _]entropy|batch|step)[ _/.-])?loss(?:[/_.]train)?(?: value)?",
    "grad_norm": r"(?:global[ _])?grad(?:ient)?s?[ _/.-]?norm|gnorm|total[ _]norm|(?<=\| )norm",
    "learning_rate": r"learning[ _-]rate|lr(?:[-_/]\w{1,20})?",
    "loss_scale": r"loss[ _]scale",
    "valid_tokens": r"valid[ _]tokens",
    "nonfinite": r"nonfinite",
    "nan_iterations": r"(?:number of )?nan[ _]iterations",
    "skipped_iterations": r"(?:number of )?skipped[ _]iterations",
    "accuracy": r"(?:eval[ _]|val[ _]|train[ _])?acc(?:uracy)?",
    "vocab_size": r"vocab(?:ulary)?[ _]size|padded[ _]vocab[ _]size|n[ _]vocab",
    "step": r"global[ _]step|step|iter(?:ation)?",
    "epoch": r"epochs?",
}
_CANONICAL = [(name, re.compile(spelling, re.I)) for name, spelling in _NAMES.items()]
_KEYS = "|".join(f"(?:{spelling})" for spelling in _NAMES.values())
_BETWEEN = (
    r"[\"'`*\])]{0,4}\s{0,24}(?:(?:is finite|is|was|:|=|\||->|→)[\"'`*]{0,4}\s{0,24}){0,2}"
    r"[\"'`*\[(]{0,4}(?:tensor\(|(?:np|numpy)\.float\d+\()?"
)
_PAIR = re.compile(rf"(?<![A-Za-z0-9_])(?P<key>{_KEYS}){_BETWEEN}{_NUMBER}(?![\w%])(?!\.\w)", re.I)
_NOT_FINITE = re.compile(
    r"(?P<key>[A-Za-z_][\w./\[\]-]{0,60})[\"'`]?\s?[:=]\s?[\"'`(]?(?:tensor\()?"
    r"(?P<number>[-+]?(?:nan(?:\(\w*\))?|inf(?:inity)?|1\.#\w+))(?![\w(])(?=\s*(?:[,;|)\]}\"'`]|$|[\w./]+\s?[:=]))",
    re.I,
)
_NORM = re.compile(
    rf"(?P<key>\|\|\s?[\w.]{{1,40}}\s?\|\|(?:_\w{{1,6}})?|\b[A-Za-z]\w{{0,40}} norm){_BETWEEN}{_NUMBER}", re.I
)
_TIMES_TEN = re.compile(r"\s?[×x*]\s?10\s?(?:\^|\*\*)\s?\{?([-+]?\d+)\}?", re.I)
_NOTES = ("findings", "update_ratio", "birth")
_INTERESTING = re.compile(r"\d|nan|inf|null", re.I)
_SPLIT = re.compile(r"[\r\n]+")
_MOJIBAKE = re.compile("Ã.|â(?:€|œ|†|Œ|š)|ðŸ|ï»¿")


@dataclass(frozen=True)
class Record:
    """The numbers of one entry. line: counted from 1; text: the line as it stands, cut; values: canonical names.
    run: counts up where the log begins anew with other weights (0 is the first run)."""

    line: int
    text: str
    values: dict[str, float]
    run: int = 0

    def get(self, name: str) -> float | None:
        return self.values.get(name)


@dataclass
class Log:
    """What a log holds. ``records`` is thinned beyond MAX_RECORDS (bad ones first to stay); the counts are of all.

    notes: sentences on the file itself (encoding, parts not read)."""

    lines: int = 0
    entries: int = 0  # records in all
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _stride: int = 1

    def add(self, record: Record) -> None:
        self.entries += 1
        sound = all(math.isfinite(value) for value in record.values.values())
        if sound and self._stride > 1 and self.entries % self._stride:
            return
        self.records.append(record)
        if len(self.records) > MAX_RECORDS:
            first = MAX_RECORDS // 20
            self.records[first:] = self.records[first::2]
            self._stride *= 2


def number(text: str) -> float:
    """A number as logs write it: nan, -nan(ind), 1.#INF, 1,024, 1.7 × 10^25, null (LoopOS's not finite). NaN for
    null."""
    text = text.strip().lower()
    sign = -1.0 if text.startswith("-") else 1.0
    bare = text.lstrip("+-")
    if bare.startswith("1.#"):
        return sign * math.inf if bare.startswith("1.#inf") else math.nan
    if bare.startswith(("nan", "null", "none")):
        return math.nan
    if bare.startswith("inf"):
        return sign * math.inf
    power = _TIMES_TEN.search(bare)
    bare = _TIMES_TEN.sub("", bare).replace(",", "").replace("_", "")
    try:
        return sign * float(f"{bare}e{power[1]}" if power and "e" not in bare else bare)
    except ValueError:
        return math.nan


def canonical(key: str) -> str:
    """The one name for a quantity, whatever a trainer calls it; an unknown name stays as it is."""
    key = " ".join(key.strip(" *`'\"").split())
    return next(
        (name for name, spelling in _CANONICAL if spelling.fullmatch(key)), "grad_norm" if key == "norm" else key
    )


def values_of(line: str) -> list[dict[str, float]]:
    """The entries of one line: a name that comes again begins the next one."""
    found: list[dict[str, float]] = [{}]
    if not _INTERESTING.search(line):
        return []
    pairs = [(match.start(), canonical(match["key"]), match["number"]) for match in _PAIR.finditer(line)]
    taken = {start for start, _, _ in pairs}
    for pattern in (_NOT_FINITE, _NORM):
        for match in pattern.finditer(line):
            name = canonical(match["key"])
            if match.start() not in taken and not any(name == known for _, known, _ in pairs):
                pairs.append((match.start(), name, match["number"]))
    own = '"nonfinite": ' in line  # of LoopOS, whose null is a NaN; elsewhere it is a number that was not logged
    for _, name, text in sorted(pairs):
        absent = text.lower() == "none" or (text.lower() == "null" and not own)
        if absent or (text.lower() == "null" and name not in ("loss", "eval_loss", "grad_norm")):
            continue
        if name in found[-1]:
            found.append({})
        found[-1][name] = number(text)
    return [values for values in found if values]


def without_notes(line: str) -> str:
    """A line of metrics.jsonl without what was said in it: findings and births are no lines of a log, though they quote
    numbers, and ratios would bury the rest."""
    record = _noted(line)
    return json.dumps({name: value for name, value in record.items() if name not in _NOTES}) if record else line


def birth_in(line: str) -> str:
    """What a line of metrics.jsonl says of the birth of a number that was not finite; "" for any other line."""
    birth = _noted(line).get("birth") if '"birth": ' in line else None
    return birth if isinstance(birth, str) else ""


def _noted(line: str) -> dict[str, Any]:
    """A line of metrics.jsonl that has more than numbers; empty for any other."""
    if not line.startswith('{"step": ') or not any(f'"{name}": ' in line for name in _NOTES):
        return {}
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return {}


def shown(line: str, most: int = 160) -> str:
    """A line as it is quoted: one line, printable, at most ``most`` characters."""
    line = (line if line.isprintable() else "".join(char if char.isprintable() else " " for char in line)).strip()
    return line if len(line) <= most else line[: most - 1] + "…"


def _opened(source: str | bytes | os.PathLike | BinaryIO) -> Iterator[tuple[BinaryIO, int | None, str | None]]:
    """(file, size where known, path)."""
    if isinstance(source, str):
        source = source.encode("utf-8", "surrogatepass")
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        yield io.BytesIO(data), len(data), None
    elif isinstance(source, os.PathLike):
        with durable.open_regular(source) as (raw, size), durable.explained("read", source):
            yield io.BufferedReader(raw, 1 << 18), size, os.fspath(source)
    else:
        yield source, None, None


def lines_of(source: str | bytes | os.PathLike | BinaryIO, notes: list[str]) -> Iterator[str]:
    """The lines of a text, bytes, a file (Path) or a stream of bytes, decoded; what is odd about it goes to ``notes``.

    Of a file beyond 64 MiB the two ends are read. CR ends a line too, as progress bars write it."""
    for file, size, _ in _opened(source):
        ends = None if size is None or size <= HEAD + TAIL else size - TAIL
        head = file.read(4)
        decode = _decoder(head, notes)
        read, rest, odd = len(head), head, {"nul": 0, "foreign": 0, "mojibake": 0}
        while block := file.read(_LINE):
            read += len(block)
            rest += block
            cut = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1
            if not cut:
                if len(rest) < _LINE:
                    continue
                cut = rest.rfind(b" ") + 1 or len(rest)  # a line beyond all measure is looked at in pieces
            if decode is not _plain:
                cut = len(rest) - len(rest) % 4
            yield from _split(rest[:cut], decode, odd)
            rest = rest[cut:]
            if ends is not None and read >= HEAD:
                notes.append(f"the file has {size} bytes; the first and the last {HEAD >> 20} MiB were read")
                file.seek(ends)
                rest, ends = b"", None
            elif size is None and read >= HEAD + TAIL:
                notes.append(f"only the first {read} bytes were read")
                break
        yield from _split(rest, decode, odd)
        if odd["nul"] and decode is _plain:
            notes.append("it holds NUL bytes: this is not, or not only, text")
        if odd["foreign"]:
            notes.append(f"{odd['foreign']} pieces are not UTF-8 and were read as Windows-1252")
        if odd["mojibake"] and not odd["nul"]:
            notes.append("UTF-8 was once read as Windows-1252 (mojibake such as “âœ…”): names and signs may be damaged")


def _decoder(head: bytes, notes: list[str]) -> Any:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16-le" if head.startswith(b"\xff\xfe") else "utf-16-be"
        notes.append(f"the text is {encoding.upper()}, as PowerShell redirects it")
        return lambda piece: piece.decode(encoding, "replace").lstrip("\ufeff")
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd")):
        notes.append("this is a compressed file; unpack it first")
    return _plain


def _plain(piece: bytes) -> str:
    return piece.decode("utf-8")


def _split(data: bytes, decode: Any, odd: dict[str, int]) -> Iterator[str]:
    if not data:
        return
    odd["nul"] += data.count(0)
    try:
        text = decode(data)
    except UnicodeDecodeError:
        odd["foreign"] += 1
        text = data.decode("cp1252", "replace")
    odd["mojibake"] += bool(_MOJIBAKE.search(text))
    yield from (line for line in _SPLIT.split(text) if line and not line.isspace())


def records_of_json(text: str) -> list[dict[str, Any]] | None:
    """The entries of a trainer_state.json (``log_history``) or of a JSON list of entries; None for anything else."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, dict):
        content = content.get("log_history")
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else None


class Table:
    """Rows under a header that names a loss: comma, tab, semicolon or bar between the cells."""

    def __init__(self) -> None:
        self._names: list[str] | None = None
        self._mark = ""

    def row(self, line: str) -> dict[str, float] | None:
        """The numbers of a row of the table whose header was seen; None for a line that is no such row."""
        for mark in (",", "\t", ";", "|"):
            cells = [cell.strip(" *`'\"") for cell in line.strip().strip("|").split(mark)]
            if len(cells) < 2:
                continue
            if self._names and mark == self._mark and len(cells) == len(self._names):
                found = {n: number(c) for n, c in zip(self._names, cells, strict=True) if _CELL.fullmatch(c)}
                if found:
                    return found
            names = [canonical(cell) for cell in cells]
            plain = all(re.fullmatch(r"[A-Za-z_|][\w /.|-]{0,40}", cell) for cell in cells)
            if plain and {"loss", "eval_loss"} & set(names) and not any(map(_CELL.fullmatch, cells)):
                self._names, self._mark = names, mark
        return None


_CELL = re.compile(_NUMBER, re.I)


def is_path(text: str) -> bool:
    """Whether a one-line text names something that exists, so that it is read and not taken at its word."""
    if not text or len(text) > 1024 or "\n" in text or "\0" in text:
        return False
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
