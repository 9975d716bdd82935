"""The values that a number of a run had last, and their median at any time."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable

LATEST = 16  # values whose median is where a loss stands now


class Window:
    """The last ``size`` values in the order they came, and sorted: a step costs two bisections. median: of all; latest:
    of the last LATEST. NaN when there is none."""

    __slots__ = ("_size", "_sorted", "latest", "median", "values")

    def __init__(self, size: int, values: Iterable[float] = ()):
        self._size, self.values = size, [float(value) for value in values][-size:]
        self._sorted = sorted(self.values)
        self.median = _median(self._sorted) if self.values else math.nan
        self.latest = _median(sorted(self.values[-LATEST:])) if self.values else math.nan

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: float) -> None:
        values, ordered = self.values, self._sorted
        values.append(value)
        insort(ordered, value)
        if len(values) > self._size:
            del ordered[bisect_left(ordered, values.pop(0))]
        self.median = _median(ordered)

    def add_latest(self, value: float) -> None:
        """The same, where ``latest`` is wanted too."""
        self.add(value)
        self.latest = _median(sorted(self.values[-LATEST:]))

    def least(self, added: int) -> float:
        """The median stays at or above this while up to ``added`` more values come, whatever they are."""
        return self._sorted[max(0, len(self._sorted) // 2 - 1 - added)]

    def deviation(self) -> float:
        """Of a normal distribution with the same median absolute deviation."""
        centre = self.median
        return 1.4826 * _median(sorted([abs(value - centre) for value in self._sorted]))


def median(values: list[float]) -> float:
    """Of values in any order."""
    return _median(sorted(values))


def _median(ordered: list[float]) -> float:
    """Median of sorted values; finite when they are."""
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    middle = (ordered[half - 1] + ordered[half]) / 2
    return middle if math.isfinite(middle) else ordered[half - 1] / 2 + ordered[half] / 2
