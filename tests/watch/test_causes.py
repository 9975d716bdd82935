"""The class of a cause, from the operands of one element."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from loopos.errors import CAUSES  # noqa: E402
from loopos.watch.causes import cause_of  # noqa: E402
from loopos.watch.elements import Found  # noqa: E402


def of(op, kind="elements", value=math.nan, dtype="float32", attributes=None, **operands):
    evidence = cause_of(op, Found((0,), value, operands, kind, attributes or {}, dtype))
    assert evidence.kind in CAUSES
    return evidence.kind


def row(*values):
    return np.array(values, float)


POINTWISE = [
    ("exp", {"self": 90.0}, {}, "exp overflow"),
    ("log", {"self": 0.0}, {}, "log 0"),
    ("log1p", {"self": -1.0}, {}, "log 0"),
    ("log1p", {"self": -2.0}, {}, "outside the domain"),
    ("rsqrt", {"self": 0.0}, {}, "x/0"),
    ("rsqrt", {"self": -1.0}, {}, "negative root"),
    ("div", {"self": 1.0, "other": 0.0}, {}, "x/0"),
    ("div", {"self": 0.0, "other": 0.0}, {}, "0/0"),
    ("div", {"self": 1e30, "other": 1e-30}, {}, "product overflow"),
    ("div", {"self": 1.0}, {"other": 0}, "x/0"),
    ("reciprocal", {"self": 0.0}, {}, "x/0"),
    ("mul", {"self": 1e30, "other": 1e30}, {}, "product overflow"),
    ("mul", {"self": 2e38}, {"other": 3.0}, "product overflow"),
    ("mul", {"self": 1.0, "other": 1.0}, {}, "unknown"),
    ("mul", {"self": 1.0}, {"other": math.nan}, "input not finite"),
    ("mul", {"self": -math.inf, "other": 0.0}, {}, "0*inf"),
    ("add", {"self": 2e38, "other": 2e38}, {}, "sum overflow"),
    ("sub", {"self": -math.inf, "other": -math.inf}, {}, "inf - inf"),
    ("sub", {"self": 2e38, "other": -2e38}, {"alpha": 1}, "sum overflow"),
    ("pow", {"self": -1.0}, {"exponent": 0.5}, "negative root"),
    ("pow", {"self": 0.0}, {"exponent": -1}, "x/0"),
    ("pow", {"self": 1e30}, {"exponent": 2}, "product overflow"),
    ("addcdiv", {"self": 0.0, "tensor1": 1.0, "tensor2": 0.0}, {}, "x/0"),
    ("acosh", {"self": 0.5}, {}, "outside the domain"),
    ("xlogy", {"self": 1.0, "other": 0.0}, {}, "log 0"),
    ("xlogy", {"self": 1.0, "other": -1.0}, {}, "outside the domain"),
    ("xlogy", {"self": 1.0}, {"other": 0}, "log 0"),
    ("special_xlog1py", {"self": 1.0, "other": -1.0}, {}, "log 0"),
    ("special_entr", {"self": -1.0}, {}, "outside the domain"),
    ("i0", {"self": 100.0}, {}, "exp overflow"),
    ("lgamma", {"self": 0.0}, {}, "outside the domain"),
    ("lgamma", {"self": 1e38}, {}, "product overflow"),
    ("logaddexp", {"self": -math.inf, "other": -math.inf}, {}, "all-masked row"),
    ("logaddexp", {"self": -math.inf, "other": 1.0}, {}, "input not finite"),
    ("mul", {"self": 0.0}, {"other": -math.inf}, "0*inf"),
    ("mul", {"self": 1.0}, {"other": -math.inf}, "input not finite"),
]


@pytest.mark.parametrize(("op", "operands", "attributes", "kind"), POINTWISE)
def test_pointwise(op, operands, attributes, kind):
    assert of(op, attributes=attributes, **operands) == kind


def test_limits_are_those_of_the_dtype():
    assert of("mul", dtype="float16", self=300.0, other=300.0) == "product overflow"
    assert of("mul", dtype="bfloat16", self=300.0, other=300.0) == "unknown"
    assert of("_to_copy", dtype="float16", self=7e4) == "cast overflow"
    assert of("mul", dtype="complex64", self=1e30 + 1j, other=1e30j) == "product overflow"


PRODUCTS = [
    ("mm", "dot", {"self": row(1e30, 1), "mat2": row(1e30, 1)}, "product overflow"),
    ("mm", "dot", {"self": row(2e38, 2e38), "mat2": row(1, 1)}, "sum overflow"),
    ("mm", "dot", {"self": row(1, 1), "mat2": row(1, 1)}, "unknown"),
    ("mm", "dot", {"self": row(-math.inf, 1), "mat2": row(0, 1)}, "0*inf"),
    ("empty", "empty", {}, "unknown"),
]


@pytest.mark.parametrize(("op", "kind", "operands", "cause"), PRODUCTS)
def test_products(op, kind, operands, cause):
    assert of(op, kind, **operands) == cause


def test_how_little_an_argument_is_outside_is_said():
    x = float(np.nextafter(np.float32(1), np.float32(2)))
    said = cause_of("acos", Found((0,), math.nan, {"self": x}, "elements"))
    assert "1.00000012" in said.words
