"""How the output of an aten operation came to be not finite: LoopOS's classes of causes, by the operands.

Products and sums are judged by the same arithmetic as those of the engine (``loopos.births.arithmetic``): computed
again in long double, where they would be finite had the dtype no limit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from loopos.births.arithmetic import Evidence, short

from .elements import Found
from .operands import Operands
from .row_causes import BY_ROW, by_size, by_whole

_EXP = {"exp", "exp2", "expm1", "sinh", "cosh", "i0", "special_i0", "special_i1"}
_LOG = {"log": 0.0, "log2": 0.0, "log10": 0.0, "log1p": -1.0}
_TIMES_LOG = {"xlogy": 0.0, "special_xlogy": 0.0, "special_xlog1py": -1.0}
_ROOT = {"sqrt", "rsqrt"}
_DOMAIN = {"acos", "asin", "atanh", "acosh", "lgamma", "digamma", "polygamma", "erfinv", "tan", "logit",
           "special_entr", "mvlgamma", "special_ndtri"}  # fmt: skip
_PRODUCT = {"mul", "prod", "square"}
_SUM = {"add", "sub", "rsub"}


def cause_of(op: str, found: Found) -> Evidence:
    """op: the name without "aten." and without the underscore of an in-place form."""
    with np.errstate(all="ignore"):
        return _Cause(op, found).evidence()


class _Cause(Operands):
    def evidence(self) -> Evidence:
        if self.found.kind == "empty":
            return self.claim("unknown", "memory that was never written (torch.empty) was read")
        scalars = [v for v in self.found.attributes.values() if isinstance(v, float) and not math.isfinite(v)]
        if scalars and self.op in _PRODUCT and 0 in self.given.values():
            return self.claim("0*inf", f"0 times the {scalars[0]} that the program itself writes here")
        if scalars and self.op not in ("clamp", "linalg_vector_norm", "norm", "nan_to_num"):
            return self.claim("input not finite", f"the program itself writes {scalars[0]} here")
        if self.found.kind == "elements":
            return self.pointwise()
        if self.found.kind == "dot":
            return self.dot()
        return BY_ROW.get(self.op, by_whole)(self)

    # pointwise

    def pointwise(self) -> Evidence:
        given = [(name, value) for name, value in self.given.items() if np.ndim(value) == 0]
        infinite = [name for name, value in given if not math.isfinite(value)]
        x = given[0][1] if given else math.nan
        if self.op in _EXP and not infinite:
            return self.claim("exp overflow", f"{self.op}({short(x)}) is beyond the largest {self.n.dtype}")
        if self.op in _LOG and not infinite:
            if x == _LOG[self.op]:
                return self.claim("log 0", f"{self.op} of {short(x)}, where it has no finite value")
            return self.claim(
                "outside the domain", f"{self.op} of {short(x)}: it is defined above {_LOG[self.op]:g} only"
            )
        if self.op.startswith("logaddexp") and given and all(value == -math.inf for _, value in given):
            return self.claim("all-masked row", "both numbers are -inf: nothing is left to add up")
        if self.op in _TIMES_LOG and len(self.with_scalar(given)) == 2 and not infinite:
            return self.times_log(*(value for _, value in self.with_scalar(given)))
        if self.op == "lgamma" and abs(x) > 1:
            return self.claim("product overflow", f"lgamma of {short(x)} is {self.n.beyond()}")
        if self.op in _ROOT and not infinite:
            if x < 0:
                return self.claim("negative root", f"the root of {short(x)}")
            return self.claim("x/0", f"1 / the root of {short(x)}")
        if self.op in _DOMAIN and not infinite:
            return self.claim("outside the domain", f"{self.op} of {float(x):.9g}, where it has no finite value")
        if self.op == "_to_copy" and not infinite:
            words = f"{short(x)} is beyond the largest {self.n.dtype}, {short(float(self.n.limit))}"
            return self.claim("cast overflow", words)
        if self.op == "pow" or self.op.startswith("pow"):
            return self.power(given)
        if self.op in ("div", "reciprocal", "floor_divide", "remainder", "fmod"):
            return self.quotient(given)
        if self.op.startswith("addc"):
            return self.fused(given)
        if self.op in _SUM:
            return self.sum(given)
        if self.op in _PRODUCT:
            return self.product(given)
        if infinite:
            return self.claim("input not finite", f"{infinite[0]} is {self.given[infinite[0]]}")
        return by_size(self, dict(given))

    def with_scalar(self, given: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        other = self.scalar("other")
        return given if other is None or any(name == "other" for name, _ in given) else [*given, ("other", other)]

    def times_log(self, factor: float, x: float) -> Evidence:
        least = _TIMES_LOG[self.op]
        said = f"{short(factor)} times the log of {short(x - least)}"
        if x == least:
            return self.claim("log 0", said)
        return self.claim("outside the domain" if x < least else "product overflow", said)

    def power(self, given: list[tuple[str, Any]]) -> Evidence:
        base = dict(given).get("self", self.scalar("self"))
        exponent = dict(given).get("exponent", self.scalar("exponent"))
        if base is None or exponent is None:
            return by_size(self, dict(given))
        said = f"{short(base)} to the power of {short(exponent)}"
        if base == 0 and exponent < 0:
            return self.claim("x/0", said)
        if base < 0 and exponent != int(exponent):
            return self.claim("negative root", said)
        return self.claim("product overflow", f"{said} is {self.n.beyond()}")

    def quotient(self, given: list[tuple[str, Any]]) -> Evidence:
        if self.op == "reciprocal":
            over, under = ("1", 1.0), given[0]
        else:
            pair = self.with_scalar(given)
            if len(pair) < 2:
                return by_size(self, dict(given))
            over, under = pair[0], pair[1]
        said = f"{'' if over[0] == '1' else over[0] + ' '}{short(over[1])} over {under[0]} {short(under[1])}"
        if under[1] == 0:
            return self.claim("0/0" if over[1] == 0 else "x/0", said)
        if not math.isfinite(over[1]) or not math.isfinite(under[1]):
            return self.claim("input not finite", said)
        return self.claim("product overflow", f"{said} is {self.n.beyond()}")

    def product(self, given: list[tuple[str, Any]]) -> Evidence:
        pair = self.with_scalar(given)
        if self.op == "square":
            pair = [given[0], given[0]]
        values = [value for _, value in pair]
        if any(not math.isfinite(value) for value in values):
            said = " times ".join(f"{name} {value}" for name, value in pair)
            return self.claim("0*inf" if 0 in values else "input not finite", said)
        return self.n.product([(name, np.longdouble(value)) for name, value in pair])

    def sum(self, given: list[tuple[str, Any]]) -> Evidence:
        pair = self.with_scalar(given)
        alpha = self.scalar("alpha")
        sign = -1 if self.op == "sub" else 1
        parts = [
            (name, np.longdouble(value) * (sign * (1 if alpha is None else alpha) if at else 1))
            for at, (name, value) in enumerate(pair)
        ]
        if any(not math.isfinite(float(value)) for _, value in pair):
            said = " and ".join(f"{name} {float(value)}" for name, value in parts)
            return self.claim("inf - inf" if math.isnan(self.found.value) else "input not finite", said)
        return self.n.addition(parts, sum(value for _, value in parts))

    def fused(self, given: list[tuple[str, Any]]) -> Evidence:
        """addcmul and addcdiv."""
        numbers, value = dict(given), self.scalar("value") or 1.0
        a, b = numbers.get("tensor1", math.nan), numbers.get("tensor2", math.nan)
        if self.op == "addcdiv" and b == 0:
            return self.claim("0/0" if a == 0 else "x/0", f"tensor1 {short(a)} over tensor2 {short(b)}")
        factor = b if self.op == "addcmul" else 1 / b
        return self.n.product([("value", value), ("tensor1", a), ("tensor2", factor)])

    # rows

    def dot(self) -> Evidence:
        names = [name for name, value in self.found.operands.items() if np.ndim(value)]
        rows = [self.given[name] for name in names]
        bad = [name for name, values in zip(names, rows, strict=True) if not np.isfinite(values).all()]
        if bad:
            other = rows[1 - names.index(bad[0])]
            at = int(np.argmin(np.isfinite(self.given[bad[0]])))
            said = f"{bad[0]}[{at}] = {self.given[bad[0]][at]} times {short(other[at])}"
            return self.claim("0*inf" if other[at] == 0 else "input not finite", said)
        if not len(rows[0]):
            return self.n.unknown("it adds up nothing")
        return self.n.dot(*names[:2], plus="plus" if "plus" in self.n else None)
