"""Rows under a header that names a loss: CSV, tabs, semicolons, Markdown, or columns parted by blanks."""

from __future__ import annotations

import csv
import re

from .names import CLOCKS, Name, name_of, tokens
from .shapes import number, plain

_MARKS = (",", "\t", ";", "|")
_HEADING = re.compile(r"[^\W\d]?[\w /.|()%@#-]{1,40}")
LOSSES = (  # a header has one of these
    *("loss", "ppl", "perplexity", "mse", "mae", "nll", "xent", "entropy", "ce", "cost", "objective", "criterion"),
    *("deviance", "elbo", "bpb", "bpc", "bits", "likelihood", "err", "损失", "損失"),
)
_CELL = re.compile(
    r"[-+]?(?:nan(?:\(\w{0,8}\))?|inf(?:inity)?|\d[\d.,_]{0,40}(?:e[-+]?\d{1,5})?|\.\d{1,40}|1\.#\w+)", re.I
)
_LOOSE = re.compile(rf"(?P<number>{_CELL.pattern})(?:/\d+|%|:?$)", re.I)  # 3/10, 85%, 640: of tables for people
_STRIP = " *`'\"\ufeff"


class Table:
    """The table that a log is in, if any; a later header begins another."""

    def __init__(self) -> None:
        self._names: list[Name | None] = []
        self._mark = ""

    @property
    def begun(self) -> bool:
        return bool(self._names)

    def header(self, line: str) -> bool:
        """Begin a table where the line is its header."""
        line = line.strip().lstrip("#%")
        for mark in (*_MARKS, ""):
            cells = _split(line, mark)
            names = [_name(cell) for cell in cells]
            if len(cells) < 2 or not any(name and name.is_loss for name in names):
                continue
            if not all(_HEADING.fullmatch(cell) for cell in cells) or any(map(_CELL.fullmatch, cells)):
                continue
            if mark == "" and sum(name is not None for name in names) * 2 < len(names) and "  " not in line.strip():
                continue  # a sentence
            self._names, self._mark = names, mark
            return True
        return False

    def row(self, line: str) -> tuple[dict[str, float], dict[Name, float]] | None:
        """(values, losses) of a row of the table; None for a line that is no such row."""
        width = len(self._names)
        cells = _split(line, self._mark) if self._mark else _cells_of_row(line, width)
        if len(cells) != width:
            return None
        comma = self._mark != "," and "," in line and (self._mark == ";" or not any("." in cell for cell in cells))
        values: dict[str, float] = {}
        losses: dict[Name, float] = {}
        for name, cell in zip(self._names, cells, strict=True):
            if name is None:
                continue
            value = _number(cell, comma and name.quantity not in CLOCKS)
            if value is None:
                if self._mark == "" and name.quantity in CLOCKS:
                    return None  # a line of another kind between the rows
            elif name.is_loss:
                losses.setdefault(name, value)
            else:
                values.setdefault(name.label, value)
        return (values, losses) if losses else None


def _number(cell: str, comma: bool) -> float | None:
    """comma: it is a decimal one where it may be of thousands, too."""
    try:
        return float(cell)
    except ValueError:
        match = _LOOSE.fullmatch(cell)
        return number(match["number"], comma) if match else None


def _split(line: str, mark: str) -> list[str]:
    line = plain(line).strip()
    if mark == "":
        parts = re.split(r"\s{2,}|\t", line)
        return parts if len(parts) > 2 or len(parts) == 2 == len(line.split()) else line.split()
    if mark not in line:
        return []
    if mark == "|":
        line = line.strip("|")
    parts = next(csv.reader([line], delimiter=mark), []) if '"' in line else line.split(mark)
    return [cell.strip(_STRIP) for cell in parts]


def _cells_of_row(line: str, width: int) -> list[str]:
    """Of columns parted by blanks: also with the row's number before them, or a progress bar behind."""
    cells = plain(line).split()
    if len(cells) == width + 1 and cells[0].isdigit():
        cells = cells[1:]
    if len(cells) > width and cells[width - 1].endswith(":"):
        cells = cells[:width]
    return cells if sum(map(bool, map(_LOOSE.fullmatch, cells))) * 2 > len(cells) else []


def _name(cell: str) -> Name | None:
    words = tuple(cell.split())
    if not words or len(words) > 6:
        return None
    return (
        name_of(words)
        or name_of(("_".join(words),))
        or (Name("grad_norm", "grad_norm") if tokens(words[-1]) == ("norm",) else None)
    )
