"""From the lines of a log to its records, one line at a time; what a shape of line means is kept for the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .logs import Log
from .shapes import DIGITS, Shape, cut, has_decimal_comma, numbers_of, places_of, plain, shape_of
from .tables import LOSSES, Table

_MOST_SHAPES = 4096


class Reading:
    """Puts the records of lines into a log. rules: gives what is to be kept with a shape, of its text in lower case."""

    def __init__(self, log: Log, rules: Callable[[str], Any] = lambda low: None):
        self._log = log
        self._rules = rules
        self._table = Table()
        self._comma = False  # the log has shown that it writes decimals with a comma
        self._shapes: dict[str, Shape] = {}
        self._places: dict[str, tuple[Shape, list[tuple[int, int]]]] = {}  # of lines that differ in single digits

    def line(self, number: int, text: str, values: bool = True) -> Shape:
        """Take in a line; values: whether its numbers count. Returns its shape."""
        mask = text.translate(DIGITS)
        if mask in self._places:
            shape, places = self._places[mask]
            if values:
                self._take(number, text, shape, [float(text[start:end]) if end else 0.0 for start, end in places])
            return shape
        template, found = cut(plain(text))
        shape = self._shapes.get(template)
        if shape is None:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            shape = self._shapes[template] = shape_of(template)
            low = template.lower()
            shape.may_be_header = not shape.has_loss and any(word in low for word in LOSSES)
            shape.rules = self._rules(low)
        if (places := places_of(text, shape.used)) is not None:
            if len(self._places) >= _MOST_SHAPES:
                self._places.clear()
            self._places[mask] = shape, places
        if values:
            if shape.has_loss and not self._comma and "," in "".join(found):
                self._comma = has_decimal_comma(found)
            self._take(number, text, shape, numbers_of(found, self._comma))
        return shape

    def _take(self, number: int, text: str, shape: Shape, numbers: list[float | None]) -> None:
        entries = shape.read(numbers) if shape.entries else []
        if not shape.has_loss:
            if self._table.begun and (row := self._table.row(text)):
                entries = [row]
            elif shape.may_be_header and self._table.header(text):
                return
        for each, losses in entries:
            self._log.add(number, text, each, losses)
