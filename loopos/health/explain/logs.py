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

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .names import HELD_OUT, LOSS, Name

MAX_RECORDS = 20_000
_HISTORY = re.compile(r'"log_history"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
_JSON = json.JSONDecoder()
_NOTES = ("findings", "update_ratio", "birth")
_RARE = 4  # a column with less than this part of the entries that the fullest one has is not chosen
_FEWEST = 3  # entries of a column beside the first
_PARTS = 6  # the rank from which a loss is one of several parts


@dataclass(frozen=True)
class Record:
    """The numbers of one entry. line: counted from 1; text: the line as it stands, cut; values: canonical names.
    run: counts up where the log begins anew with other weights (0 is the first run). place: its number among the
    entries, for a line may hold several. losses: of every column that is one,
    until the log is settled."""

    line: int
    text: str
    values: dict[str, float]
    run: int = 0
    place: int = 0
    losses: dict[Name, float] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, int]:
        """To compare two records by: which came first."""
        return self.line, self.place

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

    def add(self, line: int, text: str, values: dict[str, float], losses: dict[Name, float] | None = None) -> None:
        """Take in an entry. losses: by the column they are in, for :meth:`settle` to choose from."""
        self.entries += 1
        losses = losses or {}
        if self._stride > 1 and self.entries % self._stride and _is_sound(values, losses):
            return
        self.records.append(Record(line, shown(text), values, place=self.entries, losses=losses))
        if len(self.records) > MAX_RECORDS:
            first, rest = self.records[: MAX_RECORDS // 20], self.records[MAX_RECORDS // 20 :]
            bad = {i for i, record in enumerate(rest) if not _is_sound(record.values, record.losses)}
            few = len(bad) < MAX_RECORDS // 4
            self.records = first + [record for i, record in enumerate(rest) if i % 2 == 0 or (few and i in bad)]
            self._stride *= 2

    def settle(self) -> None:
        """Choose the columns that are the loss and the held-out loss; to be called when all records are there.

        Of several, the one whose name says least of a part or a mean; where a log is of several programs, another for
        each. A loss that is not finite counts in whatever column it stands; other columns are left out."""
        columns = {quantity: self._columns(quantity) for quantity in (LOSS, HELD_OUT)}
        self.records = _without_gaps(
            [_settled(record, columns) if record.losses else record for record in self.records]
        )

    def _columns(self, quantity: str) -> list[Name]:
        spans: dict[Name, list[int]] = {}  # count, first record, last record
        seen: dict[Name, set[float]] = {}  # up to two values: a part that is constant says least
        for i, record in enumerate(self.records):
            for name in record.losses:
                if name.quantity == quantity:
                    span = spans.setdefault(name, [0, i, i])
                    span[0], span[2] = span[0] + 1, i
                    if len(found := seen.setdefault(name, set())) < 2:
                        found.add(record.losses[name])
        most = max((count for count, _, _ in spans.values()), default=0)

        def preference(name: Name) -> tuple[bool, int, bool, int]:
            constant = name.rank >= _PARTS and len(seen[name]) == 1
            return spans[name][0] * _RARE < most, name.rank, constant, -spans[name][0]

        ranked = sorted(spans, key=preference)
        chosen: list[Name] = []
        for name in ranked:
            count, first, last = spans[name]
            apart = all(last < spans[other][1] or first > spans[other][2] for other in chosen)
            if not chosen or (apart and count >= _FEWEST):
                chosen.append(name)
        return chosen


def _is_sound(values: dict[str, float], losses: dict[Name, float]) -> bool:
    return math.isfinite(sum(values.values()) + sum(losses.values()))


def _without_gaps(records: list[Record]) -> list[Record]:
    """Without the NaN of a table that has an entry for each kind of loss, and NaN in the column of the other."""
    both = [record for record in records if LOSS in record.values and HELD_OUT in record.values]
    gaps = [{name for name in (LOSS, HELD_OUT) if math.isnan(record.values[name])} for record in both]
    if not both or any(len(gap) != 1 for gap in gaps) or len(set.union(*gaps)) != 2:
        return records
    gap_of = {id(record): gap for record, gap in zip(both, gaps, strict=True)}
    return [
        replace(record, values={name: value for name, value in record.values.items() if name not in gap_of[id(record)]})
        if id(record) in gap_of
        else record
        for record in records
    ]


def _settled(record: Record, columns: dict[str, list[Name]]) -> Record:
    values = dict(record.values)
    losses = {
        name: math.log(value) if name.perplexity else value
        for name, value in record.losses.items()
        if not (name.perplexity and value <= 0)
    }
    for quantity, chosen in columns.items():
        mine = {name: value for name, value in losses.items() if name.quantity == quantity}
        bad = [name for name, value in mine.items() if not math.isfinite(value)]
        name = next((name for name in chosen if name in mine), next((name for name in bad if name.rank < _PARTS), None))
        if name is not None:
            values[quantity] = mine[name]
        if name not in bad:
            values |= {name.label: mine[name] for name in bad}
    return replace(record, values=values, losses={})


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


def records_of_json(text: str) -> list[tuple[int, dict[str, Any]]] | None:
    """(line, entry) of a trainer_state.json (``log_history``), of a JSON list of entries, or of a history of columns
    (``{"loss": [...], "val_loss": [...]}``); None for anything else."""
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] not in ("{", "["):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, dict):
        history = _HISTORY.search(text)
        if history is None:
            columns = {name: column for name, column in content.items() if isinstance(column, list)}
            return _of_columns(columns) if columns and len(columns) == len(content) else None
        content, start = content.get("log_history"), history.end() - 1
    if not isinstance(content, list):
        return None
    return [(line, entry) for line, entry in _placed(text, start) if isinstance(entry, dict)]


def _of_columns(columns: dict[str, list[Any]]) -> list[tuple[int, dict[str, Any]]]:
    rows = max(map(len, columns.values()))
    return [(1, {name: column[i] for name, column in columns.items() if i < len(column)}) for i in range(rows)]


def _placed(text: str, start: int) -> Iterator[tuple[int, Any]]:
    """(line, value) of each item of the JSON list that begins at ``start``."""
    line, here, at = 1, 0, start + 1
    while (at := _BETWEEN.match(text, at).end()) < len(text) and text[at] != "]":
        line, here = line + text.count("\n", here, at), at
        value, at = _JSON.raw_decode(text, at)
        yield line, value


def is_path(text: str) -> bool:
    """Whether a one-line text names something that exists, so that it is read and not taken at its word."""
    if not text or len(text) > 1024 or "\n" in text or "\0" in text:
        return False
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
