"""Operands in long double: which limit a product or a sum passed, and what none of them explains."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.births.arithmetic import Numbers, short, summary

BIG = 3e38


@pytest.mark.parametrize(
    ("a", "b", "kind", "says"),
    [
        ([1.0, 1e30], [1.0, -1e30], "product overflow", "a[1] = 1e+30 times b[1] = -1e+30 is -1e+60"),
        ([BIG, BIG], [1.0, 1.0], "sum overflow", "2 products of at most 3e+38"),
        ([1.0, 2.0], [3.0, 4.0], "unknown", "gives 11, so the value does not come from"),
    ],
)
def test_a_dot_product(a, b, kind, says):
    found = Numbers({"a": a, "b": b}, "float32", np.inf).dot("a", "b")
    assert (found.kind, says in found.words) == (kind, True), found.words


def test_a_product_of_single_numbers_and_a_sum_with_one_more():
    numbers = Numbers({"c": [BIG], "x": [1.0, 2.0]}, "float32", np.inf)
    assert numbers.product({"a": 1e20, "b": 1e20}).kind == "product overflow"
    assert numbers.product({"a": BIG, "b": 1.0}, plus="c").kind == "sum overflow"
    assert numbers.product([("x", 2.0), ("x", 2.0)]).kind == "unknown"
    assert numbers.total("x").kind == "unknown"


def test_the_limit_is_that_of_the_dtype():
    assert Numbers({}, "float64", np.inf).product({"a": 1e20, "b": 1e20}).kind == "unknown"
    assert Numbers({}, "float64", np.inf).product({"a": 1e200, "b": 1e200}).kind == "product overflow"


def test_what_rounding_leaves():
    numbers = Numbers({}, "float32", np.inf)
    assert numbers.rounding("d", 1.0, "f", 1.0) is None
    assert "of which rounding leaves up to" in numbers.rounding("d", 1e30, "f", 1e30).words


def test_words():
    assert short(np.longdouble("1e400")) == "1e+400"
    assert short(1234.5) == "1.23e+03"
    assert summary(np.array([1.0, -5.0]), 1) == {"count": 2, "min": -5.0, "max": 1.0, "at": 1, "value": -5.0}
