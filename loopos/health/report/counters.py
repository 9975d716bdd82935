"""How many numbers of a run are what: in all, finite, not finite, zero; their range and mean."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from loopos.checks import finite_or_none
from loopos.health.runs import Run, read_bits

_OF_BITS = ("loss", "grad_norm")  # bits.jsonl has them of every step


@dataclass(frozen=True)
class Counters:
    """total: numbers that were logged; finite, nan, infinite: how many of each; unknown: logged as null, which is NaN
    or infinite; zero: of the finite ones; least, largest, mean: of the finite ones, None where there are none;
    first_bad: the step of the first that is not finite, or None."""

    total: int
    finite: int
    nan: int
    infinite: int
    unknown: int
    zero: int
    least: float | None
    largest: float | None
    mean: float | None
    first_bad: int | None

    @property
    def not_finite(self) -> int:
        return self.nan + self.infinite + self.unknown


def count(numbers: Iterable[tuple[int, float | None]]) -> Counters:
    """Of (step, number) in the order of a log; None: a number that is not finite, of which no more is known."""
    finite, nan, infinite, unknown, first_bad = [], 0, 0, 0, None
    for step, value in numbers:
        if value is not None and math.isfinite(value):
            finite.append(value)
            continue
        first_bad = step if first_bad is None else first_bad
        if value is None:
            unknown += 1
        elif math.isnan(value):
            nan += 1
        else:
            infinite += 1
    return Counters(
        total=len(finite) + nan + infinite + unknown,
        finite=len(finite),
        nan=nan,
        infinite=infinite,
        unknown=unknown,
        zero=sum(value == 0 for value in finite),
        least=min(finite, default=None),
        largest=max(finite, default=None),
        mean=math.fsum(value / len(finite) for value in finite) if finite else None,
        first_bad=first_bad,
    )


def counters(run: Run) -> dict[str, Counters]:
    """Of loss, gradient norm and held-out loss, by name; what the run never logged is left out. Of the first two each
    step counts where the run has bits.jsonl. A step without any target has neither: its batch has no mean."""
    bits = read_bits(run)
    empty = {record["step"] for record in run.records if record.get("valid_tokens") == 0}
    found = {}
    for name in (*_OF_BITS, "eval_loss"):
        if bits is not None and name in _OF_BITS:
            numbers = [(r["step"], _from_hex(r.get(f"{name}_hex"))) for r in bits.records if r["step"] not in empty]
        else:
            numbers = [
                (r["step"], finite_or_none(r[name])) for r in run.records if name in r and not _is_empty(r, name)
            ]
        if numbers:
            found[name] = count(numbers)
    return found


def table(found: dict[str, Counters]) -> list[dict[str, Any]]:
    """A row a name, safe for JSON."""
    return [{"name": name, **asdict(counted)} for name, counted in found.items()]


def _is_empty(record: dict[str, Any], name: str) -> bool:
    return name in _OF_BITS and record.get("valid_tokens") == 0


def _from_hex(text: Any) -> float | None:
    try:
        return float.fromhex(text)
    except (TypeError, ValueError, OverflowError):
        return None
