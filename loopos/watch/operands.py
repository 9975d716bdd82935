"""The operands of one element of an aten operation's output, for the rules that judge them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from loopos.births.arithmetic import Evidence, Numbers

from .elements import Found

_LIMITS = {"bfloat16": 3.3895313892515355e38, "float16": 65504.0, "float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}


class _Numbers(Numbers):
    """With the limits of dtypes that numpy has not."""

    def __init__(self, operands: Mapping[str, Any], dtype: str, value: float):
        dtype = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
        super().__init__(operands, "float32" if dtype in _LIMITS else dtype, value)
        if dtype in _LIMITS:
            self.dtype, self.limit = dtype, np.longdouble(_LIMITS[dtype])


class Operands:
    """op: without "aten." and the underscore of an in-place form; given: by name, of complex numbers the magnitudes;
    shown: those that are single numbers; n: the same in long double."""

    def __init__(self, op: str, found: Found):
        self.op, self.found = op, found
        self.given = {name: _real(value) for name, value in found.operands.items()}
        self.shown = {name: value for name, value in found.operands.items() if not isinstance(value, np.ndarray)}
        self.shown = {name: value for name, value in self.shown.items() if not isinstance(value, complex)}
        rows = {name: np.atleast_1d(value) for name, value in self.given.items() if not isinstance(value, Mapping)}
        self.n = _Numbers(
            rows, found.dtype if "float" in found.dtype or "complex" in found.dtype else "float32", found.value
        )

    def claim(self, kind: str, words: str) -> Evidence:
        return Evidence(kind, words, self.shown)

    def scalar(self, *names: str) -> float | None:
        for name in names:
            value = self.found.attributes.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        return None

    def row(self) -> tuple[str, np.ndarray] | None:
        return next(((name, np.asarray(v)) for name, v in self.given.items() if np.ndim(v)), None)


def _real(value: Any) -> Any:
    """Of complex numbers the magnitude: it decides what overflows and what is 0."""
    if isinstance(value, complex):
        return abs(value)
    return np.abs(value) if isinstance(value, np.ndarray) and np.iscomplexobj(value) else value
