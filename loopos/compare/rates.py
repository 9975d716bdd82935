"""Which learning rate an optimizer gets: the one that was given, or the best of a short sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loopos import checks
from loopos.optim.rules import RULES

USUAL = {"adamw": 1e-3, "adam": 1e-3, "sgd": 0.3, "lion": 3e-4, "muon": 1e-2}  # the middle of a sweep
STEP = 10**0.5  # from one rate of a sweep to the next
RATES = 5  # of a sweep before it is extended
ALIKE = 0.01  # of the best loss of a sweep: what is no farther from it cannot be told from it
EXTENSIONS = 3  # at most, where the best rate lies at an edge
REST = 0.1  # with a rule for matrices alone, the rate of all else is so many times its rate
FINAL = 0.1  # the share of the rate that the schedule ends with


def named(optimizers: Sequence[str]) -> list[str]:
    """The names, checked. ValueError for none, one given twice or an unknown one, with those that exist."""
    if not optimizers:
        raise ValueError(f"compare: expected the names of optimizers, got none; there are {', '.join(RULES)}")
    for name in optimizers:
        checks.choice("compare", "optimizers", name, tuple(RULES))
        if optimizers.count(name) > 1:
            raise ValueError(f"compare: optimizers has {name!r} twice; expected each name once")
    return list(optimizers)


def given(text: str, optimizers: Sequence[str]) -> dict[str, float]:
    """Rates as the command line has them: "adam=1e-3,sgd=0.1", or one number, which is for all. ValueError for what is
    no rate, or is of an optimizer that is not compared."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, sign, value = part.rpartition("=")
        name = name.strip()
        try:
            rate = checks.real("compare", f"the learning rate of {name or 'all'}", float(value), above=0)
        except ValueError:
            raise ValueError(
                f"compare: learning_rate must be a number above 0, or name=number with commas, got {text!r}"
            ) from None
        if sign and name not in optimizers:
            raise ValueError(
                f"compare: learning_rate has {name!r}, which is not compared; compared are {', '.join(optimizers)}"
            )
        for each in [name] if sign else optimizers:
            if each in found:
                raise ValueError(f"compare: learning_rate gives {each} two rates in {text!r}; expected one")
            found[each] = rate
    return found


def grid(optimizer: str, count: int = RATES) -> list[float]:
    """``count`` rates about the usual one, evenly on a logarithmic scale."""
    return [_round(USUAL[optimizer] * STEP ** (i - (count - 1) // 2)) for i in range(count)]


def best_of(found: Mapping[float, float | None]) -> float | None:
    """The rate with the lowest held-out loss; None where none of them is finite."""
    finite = {rate: loss for rate, loss in found.items() if loss is not None}
    return min(finite, key=lambda rate: (finite[rate], rate)) if finite else None


def alike(found: Mapping[float, float | None]) -> list[float]:
    """The rates whose loss is within ALIKE of the best, in rising order. The lowest of them is the one to take: a short
    trial that is still at a plateau tells rates apart by their noise, and one that is too large never leaves it."""
    best = best_of(found)
    if best is None:
        return []
    least = found[best]
    return sorted(rate for rate, loss in found.items() if loss is not None and loss <= least + ALIKE * abs(least))


def beyond(found: Mapping[float, float | None]) -> float | None:
    """The next rate to try: beyond the edge at which the best one lies; below all where none is finite. None where the
    best lies between two others."""
    best, low, high = best_of(found), min(found), max(found)
    if best is None or best == low:
        return _round(low / STEP)
    return _round(high * STEP) if best == high else None


def keywords(optimizer: str, rate: float) -> dict[str, Any]:
    """Of loopos.train. A rule that takes matrices alone has ``rate`` for them, and REST times it for all else."""
    if RULES[optimizer]._matrices_only:
        return {"optimizer": optimizer, "muon_lr": rate} | _falling(rate * REST)
    return {"optimizer": optimizer} | _falling(rate)


def _falling(rate: float) -> dict[str, float]:
    return {"learning_rate": rate, "min_lr": rate * FINAL}


def in_words(optimizer: str, rate: float) -> str:
    rest = f" (matrices; {rate * REST:g} for the rest)" if RULES[optimizer]._matrices_only else ""
    return f"{rate:g}{rest}"


def _round(rate: float) -> float:
    return float(f"{rate:.2g}")
