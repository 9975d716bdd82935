"""How the output of an aten operation came to be not finite: LoopOS's classes of causes, by the operands.

Products and sums are judged by the same arithmetic as those of the engine (``loopos.births.arithmetic``): computed
again in long double, where they would be finite had the dtype no limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from loopos.births.arithmetic import Evidence, Numbers, short

from .elements import Found

_LIMITS = {"bfloat16": 3.3895313892515355e38, "float16": 65504.0, "float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}
_EXP = {"exp", "exp2", "expm1", "sinh", "cosh"}
_LOG = {"log": 0.0, "log2": 0.0, "log10": 0.0, "log1p": -1.0}
_ROOT = {"sqrt", "rsqrt"}
_DOMAIN = {"acos", "asin", "atanh", "acosh", "lgamma", "digamma", "polygamma", "erfinv", "tan", "logit"}
_SOFTMAX = {"_softmax", "_log_softmax", "_safe_softmax", "logsumexp", "logcumsumexp"}
_PRODUCT = {"mul", "prod", "square"}
_SUM = {"add", "sub", "rsub"}


def cause_of(op: str, found: Found) -> Evidence:
    """op: the name without "aten." and without the underscore of an in-place form."""
    with np.errstate(all="ignore"):
        return _Cause(op, found).evidence()


class _Numbers(Numbers):
    """With the limits of dtypes that numpy has not."""

    def __init__(self, operands: Mapping[str, Any], dtype: str, value: float):
        dtype = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
        super().__init__(operands, "float32" if dtype in _LIMITS else dtype, value)
        if dtype in _LIMITS:
            self.dtype, self.limit = dtype, np.longdouble(_LIMITS[dtype])


class _Cause:
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

    def evidence(self) -> Evidence:
        if self.found.kind == "empty":
            return self.claim("unknown", "memory that was never written (torch.empty) was read")
        scalars = [v for v in self.found.attributes.values() if isinstance(v, float) and not math.isfinite(v)]
        if scalars and self.op not in ("clamp", "linalg_vector_norm", "norm", "nan_to_num"):
            return self.claim("input not finite", f"the program itself writes {scalars[0]} here")
        if self.found.kind == "elements":
            return self.pointwise()
        if self.found.kind == "dot":
            return self.dot()
        return _KINDS.get(self.op, _by_whole)(self)

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
        if self.op in _ROOT and not infinite:
            if x < 0:
                return self.claim("negative root", f"the root of {short(x)}")
            return self.claim("x/0", f"1 / the root of {short(x)}")
        if self.op in _DOMAIN and not infinite:
            return self.claim("outside the domain", f"{self.op} of {short(x)}, where it has no finite value")
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
        return _by_size(self, dict(given))

    def scalar(self, *names: str) -> float | None:
        for name in names:
            value = self.found.attributes.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        return None

    def with_scalar(self, given: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        other = self.scalar("other")
        return given if other is None or any(name == "other" for name, _ in given) else [*given, ("other", other)]

    def power(self, given: list[tuple[str, Any]]) -> Evidence:
        base = dict(given).get("self", self.scalar("self"))
        exponent = dict(given).get("exponent", self.scalar("exponent"))
        if base is None or exponent is None:
            return _by_size(self, dict(given))
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
                return _by_size(self, dict(given))
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

    def row(self) -> tuple[str, np.ndarray] | None:
        return next(((name, np.asarray(v)) for name, v in self.given.items() if np.ndim(v)), None)


def _real(value: Any) -> Any:
    """Of complex numbers the magnitude: it decides what overflows and what is 0."""
    if isinstance(value, complex):
        return abs(value)
    return np.abs(value) if isinstance(value, np.ndarray) and np.iscomplexobj(value) else value


def _softmax(c: _Cause) -> Evidence:
    row = c.row()
    if row is None:
        return _by_whole(c)
    _, values = row
    count = len(values)
    if count and (values == -math.inf).all():
        return Evidence("all-masked row", f"all {count} numbers of the row are -inf: nothing is left to weigh", {})
    if (values == math.inf).any():
        return Evidence(
            "inf - inf", f"the row has +inf at {int(np.argmax(values))}, from which the maximum is taken", {}
        )
    return _total(c)


def _total(c: _Cause) -> Evidence:
    """Sums and means: the sum of a row."""
    row = c.row()
    if row is None:
        return _by_whole(c)
    name, values = row
    if not len(values):
        return Evidence("0/0", f"{c.op} of no number at all is 0/0", {})
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        kind = "inf - inf" if math.isnan(c.found.value) and not np.isnan(values).any() else "input not finite"
        return Evidence(kind, f"number {at} of {len(values)} is {values[at]}", {})
    return c.n.total(name)


def _variance(c: _Cause) -> Evidence:
    row = c.row()
    if row is None:
        return _by_whole(c)
    _, values = row
    correction = c.scalar("correction")
    correction = 1.0 if correction is None else correction
    if len(values) <= correction:
        words = f"{c.op} of {len(values)} number(s) divides by {max(0, len(values) - int(correction))}"
        return Evidence("0/0", words, {"count": float(len(values))})
    return _squares(c)


def _squares(c: _Cause) -> Evidence:
    name, values = c.row() or ("", np.zeros(0))
    if not len(values):
        return _by_whole(c)
    at = int(np.argmax(np.abs(values)))
    top = np.longdouble(values[at])
    centre = np.longdouble(0) if "norm" in c.op else np.mean(values.astype(np.longdouble))
    words = f"the squares of {len(values)} numbers of up to {short(abs(top))}"
    if (top - centre) ** 2 > c.n.limit:
        return Evidence("product overflow", f"{words}: one alone is {c.n.beyond()}", {name: float(top)})
    return Evidence("sum overflow", f"{words} are in sum {c.n.beyond()}", {name: float(top)})


def _prod(c: _Cause) -> Evidence:
    _, values = c.row() or ("", np.zeros(0))
    at = int(np.argmax(np.abs(values))) if len(values) else 0
    words = (
        f"the product of {len(values)} numbers of up to {short(abs(values[at]))}, {c.n.beyond()}" if len(values) else ""
    )
    return Evidence("product overflow", words, {})


def _nll(c: _Cause) -> Evidence:
    _, values = c.row() or ("", np.zeros(0))
    if not len(values):
        return Evidence(
            "0/0", "no label is left to score (all are ignored): the mean is over 0 of them", {"count": 0.0}
        )
    if (values == -math.inf).any():
        at = int(np.argmin(values))
        words = f"the label at {at} of {len(values)} that are scored has the probability 0: its logit is masked"
        return Evidence("log 0", words, {})
    return _total(c)


def _norm(c: _Cause) -> Evidence:
    _, values = c.row() or ("", np.zeros(0))
    if not len(values):
        return _by_whole(c)
    x, eps = values.astype(np.longdouble), c.scalar("eps") or 0.0
    mean, variance = x.mean(), x.var()
    if variance > c.n.limit or np.abs(x).sum() > c.n.limit:
        return _squares(c)
    if variance + eps == 0:
        return Evidence("0/0", f"the row is constant and eps is {eps:g}: (x - mean) / 0", {"variance": float(variance)})
    normed = (x - mean) / np.sqrt(variance + eps)
    at = int(c.found.operands.get("channel", 0))
    parts = {"normed x": normed[at], "weight": np.longdouble(c.given.get("weight", 1.0))}
    return c.n.product(list(parts.items()), plus="bias" if "bias" in c.given else None)


def _batch_norm(c: _Cause) -> Evidence:
    """In evaluation mode, where the variance is a buffer."""
    if "running_var" not in c.given:
        return _by_whole(c)
    x, mean, variance = (np.longdouble(c.given[name]) for name in ("x", "running_mean", "running_var"))
    eps = c.scalar("eps") or 0.0
    if variance + eps < 0:
        return c.claim("negative root", f"running_var {short(variance)} + eps {eps:g} stands under the root")
    if variance + eps == 0:
        return c.claim("0/0" if x == mean else "x/0", "running_var + eps is 0")
    parts = {"normed x": (x - mean) / np.sqrt(variance + eps), "weight": np.longdouble(c.given.get("weight", 1.0))}
    return c.n.product(list(parts.items()), plus="bias" if "bias" in c.given else None)


def _ctc(c: _Cause) -> Evidence:
    needed, frames = c.given.get("needed"), c.given.get("frames")
    if needed is None or c.found.value != math.inf:
        return _by_whole(c)
    if frames < needed:
        words = f"a target of {c.given['labels']:g} labels needs {needed:g} frames of its input, which has {frames:g}"
        return c.claim("log 0", f"{words}: no alignment is possible")
    return c.claim("log 0", "every alignment of the target with its input has the probability 0")


def _largest(c: _Cause) -> Evidence:
    row = c.row()
    if row is not None and len(row[1]) and (row[1] == -math.inf).all():
        return Evidence("all-masked row", f"all {len(row[1])} numbers of the row are -inf: it has no greatest", {})
    return _by_whole(c)


def _by_whole(c: _Cause) -> Evidence:
    """Of operations whose elements are not taken apart: by how large their operands are."""
    largest = {name: v for name, v in c.given.items() if isinstance(v, Mapping) and "value" in v}
    return _by_size(c, {name: v["value"] for name, v in largest.items()})


def _by_size(c: _Cause, values: Mapping[str, float]) -> Evidence:
    said = ", ".join(f"{name} up to {short(abs(value))}" for name, value in values.items() if math.isfinite(value))
    if "cholesky" in c.op or "eig" in c.op or "linalg_inv" in c.op or "solve" in c.op or "lu" in c.op.split("_"):
        return Evidence("x/0", f"the matrix is singular, or nearly so: {said}", c.shown)
    sizes = [abs(np.longdouble(value)) for value in values.values() if math.isfinite(value)]
    if sizes and np.prod(np.maximum(np.array(sizes, np.longdouble), 1)) * max(sizes) > c.n.limit:
        return Evidence("product overflow", f"{said}: their products are {c.n.beyond()}", c.shown)
    if "backward" in c.op and any(value == 0 for value in values.values()):
        return Evidence("x/0", f"an operand is 0 where its gradient divides by it: {said}", c.shown)
    return Evidence("unknown", f"{c.op} of finite numbers: {said or 'none'}", c.shown)


_KINDS: dict[str, Callable[[_Cause], Evidence]] = {
    **dict.fromkeys(_SOFTMAX, _softmax),
    **dict.fromkeys(("sum", "mean", "cumsum", "nansum", "embedding_dense_backward"), _total),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), _variance),
    **dict.fromkeys(("linalg_vector_norm", "norm"), _squares),
    "prod": _prod,
    "cumprod": _prod,
    **dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward"), _nll),
    "native_layer_norm": _norm,
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update"), _batch_norm
    ),
    "_ctc_loss": _ctc,
    **dict.fromkeys(("amax", "max"), _largest),
}
