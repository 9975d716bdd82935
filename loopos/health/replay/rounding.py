"""Two runs whose bits cannot agree, because instruction sets or kinds of products are different: are they the same but
for rounding?

Other sums round otherwise, so loss and gradient norm differ by a few units in the last place in the first step, and
training makes that grow, little by little. A step that is suddenly much further apart than all before it is more than
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

JUMP = 100.0  # times the furthest apart so far, and times FLOOR units in the last place: no rounding grows so in a step
FLOOR = 100.0
FIELDS = ("loss", "grad_norm")
Lines = Mapping[int, Mapping[str, Any]]


class Rounding(NamedTuple):
    """step: the first that is further apart than rounding explains, with field and both values; None where there is
    none. furthest: (step, field, how far apart relatively) of the steps before, or of all."""

    step: int | None
    field: str
    a: float
    b: float
    furthest: tuple[int, str, float]
    first: tuple[int, float]

    def __str__(self) -> str:
        at, field, far = self.furthest
        grew = f"from {self.first[1]:.1e} in step {self.first[0]} to at most {far:.1e} ({field} of step {at})"
        if self.step is None:
            return f"no step is further apart than rounding explains: relatively, it grows {grew}"
        return (
            f"the first step that is further apart than rounding explains is {self.step}: {self.field} {self.a!r} in "
            f"A, {self.b!r} in B, {apart(self.a, self.b):.1e} apart relatively; before it, it grows {grew}"
        )


def beyond_rounding(a: Lines, b: Lines, steps: Sequence[int], unit: float) -> Rounding:
    """Of the ``steps`` that both runs logged, by their lines. unit: the relative error of one rounding."""
    floor = FLOOR * unit
    furthest, first = (steps[0], FIELDS[0], 0.0), None
    for step in steps:
        largest = furthest
        for field in FIELDS:
            x, y = (_number(line.get(step, {}), field) for line in (a, b))
            if x is None or y is None:
                continue
            far = apart(x, y)
            if far > JUMP * max(floor, furthest[2]):
                return Rounding(step, field, x, y, furthest, first or (step, 0.0))
            if far > largest[2]:
                largest = step, field, far
        furthest = largest
        first = first or (step, furthest[2])
    return Rounding(None, "", 0.0, 0.0, furthest, first or (steps[0], 0.0))


def apart(x: float, y: float) -> float:
    """How far apart relatively: 0 for the same and for two that are not finite, infinite where one alone is."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return 0.0 if math.isfinite(x) == math.isfinite(y) else math.inf
    size = max(abs(x), abs(y))
    return abs(x - y) / size if size > 0 else 0.0


def _number(line: Mapping[str, Any], field: str) -> float | None:
    """A field in full bits if they are there; NaN where it is null; None where it is missing."""
    try:
        if isinstance(line.get(f"{field}_hex"), str):
            return float.fromhex(line[f"{field}_hex"])
        value = line[field]
        return math.nan if value is None else float(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
