"""Checks of scalar arguments. Each returns the value as a plain Python number, or refuses it with a sentence that
names who asked, the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_COUNT = 2**63 - 1  # of steps, sequences, epochs: beyond any use, and still an int64


def shown(value: Any) -> str:
    """The value as it appears in an error: its type unless obvious, and a repr kept short."""
    try:
        text = repr(value)
    except Exception:  # an int of more digits than Python prints, or a broken __repr__: the message must still come out
        text = f"a value of type {type(value).__name__}"
    if len(text) > 80:
        text = text[:60] + "..." + text[-12:]
    return text if isinstance(value, int | float | str) else f"{text} ({type(value).__name__})"


def integer(where: str, name: str, value: Any, *, low: int | None = None, high: int | None = None) -> int:
    """``value`` as int. A bool, a float or a string: TypeError; outside low..high (both included): ValueError."""
    expected = "an integer" + _between(low, high)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{where}: {name} must be {expected}, got {shown(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{where}: {name} must be {expected}, got {shown(value)}")
    return int(value)


def count(where: str, name: str, value: Any, *, low: int = 1, high: int = MAX_COUNT) -> int:
    """``value`` as int, of at least ``low``. More than ``high``, which nobody means: ValueError."""
    number = integer(where, name, value, low=low)
    if number > high:
        raise ValueError(f"{where}: {name} must be at most {high}, got {shown(number)}")
    return number


def real(
    where: str,
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """``value`` as a finite float with low <= value <= high and above < value < below. A bool, string or array:
    TypeError; NaN, infinite or out of range: ValueError."""
    bounds = ((low, "at least"), (above, "greater than"), (high, "at most"), (below, "less than"))
    limits = [f"{text} {limit:g}" for limit, text in bounds if limit is not None]
    expected = "a finite number" + (" " + " and ".join(limits) if limits else "")
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{where}: {name} must be {expected}, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # an int beyond the largest float
        number = math.inf
    inside = (
        math.isfinite(number)
        and (low is None or number >= low)
        and (high is None or number <= high)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if not inside:
        raise ValueError(f"{where}: {name} must be {expected}, got {shown(value)}")
    return number


def boolean(where: str, name: str, value: Any) -> bool:
    """``value`` as bool; anything but True or False: TypeError."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{where}: {name} must be True or False, got {shown(value)}")
    return bool(value)


def choice(where: str, name: str, value: Any, choices: Sequence[str]) -> str:
    """``value`` if it is one of ``choices``. Not a string: TypeError; another string: ValueError."""
    expected = "one of " + ", ".join(repr(c) for c in choices)
    if not isinstance(value, str):
        raise TypeError(f"{where}: {name} must be {expected}, got {shown(value)}")
    if value not in choices:
        raise ValueError(f"{where}: {name} must be {expected}, got {shown(value)}")
    return str(value)


def finite_or_none(value: Any) -> float | None:
    """A logged value as float; None where it is null, no number or not finite. Refuses nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an int beyond the largest float
        return None


def _between(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return "" if high is None else f" of at most {high}"


def unmasked(where: str, name: str, value: Any) -> Any:
    """``value``, unless it is a masked array: TypeError, because its mask would be dropped without a word. What goes to
    the core as it is needs no call of this: ``bindings/arrays.h`` refuses the same."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{where}: {name} must not be a masked array, whose mask no function here looks at: pass its .filled(...) "
            "or .data"
        )
    return value
