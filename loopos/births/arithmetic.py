"""Operands in long double, and what their products and sums would be without the limits of a dtype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


def short(x: Any) -> str:
    """A number in three digits, also one beyond float64."""
    if np.isfinite(x) and abs(x) > _FLOAT64:
        return np.format_float_scientific(np.longdouble(x), precision=2, trim="-")
    return f"{float(x):.3g}"


_FLOAT64 = np.finfo(np.float64).max
Named = Mapping[str, Any] | Sequence[tuple[str, Any]]  # pairs where a name may come twice, as in x times x


class Evidence(NamedTuple):
    """kind: one of loopos.errors.CAUSES; words: the arithmetic; operands: as Birth.operands has them."""

    kind: str
    words: str
    operands: dict[str, Any]


class Numbers:
    """The operands of one element. Vectors by name; single numbers that are sizes or attributes by ``number``."""

    def __init__(self, operands: Mapping[str, Any], dtype: str, value: float):
        self.dtype, self.value = dtype, value
        self.limit, self.tiny = np.longdouble(np.finfo(dtype).max), np.longdouble(np.finfo(dtype).smallest_subnormal)
        self.eps = np.longdouble(np.finfo(dtype).eps)
        self._vectors = {name: np.asarray(v, np.longdouble) for name, v in operands.items() if np.ndim(v)}
        self._numbers = {name: v for name, v in operands.items() if not np.ndim(v)}

    def __contains__(self, name: str) -> bool:
        return name in self._vectors

    def __getitem__(self, name: str) -> np.ndarray:
        return self._vectors[name]

    def number(self, name: str, default: Any = None) -> Any:
        return self._numbers.get(name, default)

    def beyond(self) -> str:
        return f"beyond the largest {self.dtype}, {short(float(self.limit))}"

    def unknown(self, why: str, operands: dict[str, Any] | None = None) -> Evidence:
        return Evidence("unknown", why, operands or {})

    def _not_its_own(self, exact: Any, operands: dict[str, Any]) -> Evidence:
        words = (
            f"what it was made of gives {short(float(exact))}, so the value does not come from this operation's "
            "arithmetic: a planted fault, memory or the processor"
        )
        return Evidence("unknown", words, operands)

    def dot(self, a: Any, b: Any, plus: str | None = None) -> Evidence:
        """Sum of a[k] b[k], each a name or (name, numbers), plus one more operand if it is there."""
        (a_name, a), (b_name, b) = ((x, self[x]) if isinstance(x, str) else x for x in (a, b))
        products = a * b
        at = int(np.argmax(np.abs(products)))
        operands = {a_name: summary(a, at), b_name: summary(b, at)}
        more = self[plus][0] if plus in self else np.longdouble(0)
        if plus in self:
            operands[plus] = float(more)
        top = products[at]
        if abs(top) > self.limit:
            factors = f"{a_name}[{at}] = {short(a[at])} times {b_name}[{at}] = {short(b[at])}"
            words = f"{factors} is {short(top)}, {self.beyond()}"
            if np.isnan(self.value):
                words += "; with others of the opposite sign that is inf - inf"
            return Evidence("product overflow", words, operands)
        if np.abs(products).sum() + abs(more) > self.limit:
            words = f"{len(products)} products of at most {short(abs(top))} in magnitude, {self.beyond()} in sum"
            return Evidence("sum overflow", words, operands)
        return self._not_its_own(products.sum() + more, operands)

    def rounding(self, what: str, magnitude: Any, factor_name: str, factor: Any) -> Evidence | None:
        """Where the exact ``what`` is a small difference of numbers of this magnitude: rounding alone leaves up to eps
        times it, and that times a factor may overflow."""
        left = self.eps * magnitude
        if not left * abs(factor) > self.limit:
            return None
        words = (
            f"{what} is a difference of numbers of {short(magnitude)}, of which rounding leaves up to {short(left)}; "
            f"times {factor_name} {short(factor)} that is {self.beyond()}"
        )
        return Evidence("product overflow", words, {what: float(magnitude), factor_name: float(factor)})

    def total(self, name: str) -> Evidence:
        """Sum of all numbers of one operand."""
        terms = self[name]
        if terms.size == 0:
            return self._not_its_own(0.0, {})
        at = int(np.argmax(np.abs(terms)))
        operands = {name: summary(terms, at)}
        if np.abs(terms).sum() > self.limit:
            words = f"{len(terms)} numbers of at most {short(abs(terms[at]))} in magnitude, {self.beyond()} in sum"
            return Evidence("sum overflow", words, operands)
        return self._not_its_own(terms.sum(), operands)

    def product(self, factors: Named, plus: str | None = None) -> Evidence:
        """All factors multiplied, plus one more operand if it is there."""
        factors = _pairs(factors)
        operands = {name: float(value) for name, value in factors}
        result = np.prod(np.array([value for _, value in factors], np.longdouble))
        said = " times ".join(f"{name} {short(value)}" for name, value in factors)
        if abs(result) > self.limit:
            return Evidence("product overflow", f"{said} is {short(result)}, {self.beyond()}", operands)
        if plus in self:
            more = self[plus][0]
            return self.addition({said: result, plus: more}, result + more, raw=operands | {plus: float(more)})
        return self._not_its_own(result, operands)

    def addition(
        self,
        parts: Named,
        result: Any,
        verb: str = "together they are",
        *,
        limit: float | None = None,
        raw: dict[str, Any] | None = None,
    ) -> Evidence:
        parts = _pairs(parts)
        operands = {name: float(value) for name, value in parts} if raw is None else raw
        most, beyond = (self.limit, self.beyond()) if limit is None else (limit, f"beyond {short(float(limit))}")
        if abs(result) > most:
            said = " and ".join(f"{name} {short(value)}" for name, value in parts)
            return Evidence("sum overflow", f"{said}: {verb} {short(result)}, {beyond}", operands)
        return self._not_its_own(result, operands)


def _pairs(named: Named) -> Sequence[tuple[str, Any]]:
    return list(named.items()) if isinstance(named, Mapping) else named


def summary(row: np.ndarray, at: int) -> dict[str, float | int]:
    """Of a row of operands: how many, the least and greatest, and the one that decided."""
    return {
        "count": len(row),
        "min": float(row.min()),
        "max": float(row.max()),
        "at": at,
        "value": float(row[at]),
    }
