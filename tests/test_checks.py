"""loopos/checks.py: values come back as plain numbers, refusals are sentences."""

import math

import numpy as np
import pytest

from loopos import checks


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_integer_gives_a_plain_int(value):
    got = checks.integer("f", "n", value, low=3, high=3)
    assert got == 3
    assert type(got) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, "3", None, [3], np.array([3])])
def test_integer_refuses_other_types(value):
    with pytest.raises(TypeError, match=r"f: n must be an integer of at least 1, got "):
        checks.integer("f", "n", value, low=1)


@pytest.mark.parametrize("value", [0, 10])
def test_integer_range(value):
    with pytest.raises(ValueError, match=rf"f: n must be an integer from 1 to 9, got {value}"):
        checks.integer("f", "n", value, low=1, high=9)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(1)])
def test_real_gives_a_plain_float(value):
    got = checks.real("f", "x", value)
    assert got == float(value)
    assert type(got) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), 10**400, -(10**400)])
def test_real_is_finite(value):
    with pytest.raises(ValueError, match="f: x must be a finite number, got"):
        checks.real("f", "x", value)


def test_real_bounds_are_closed_or_open_as_named():
    assert checks.real("f", "x", 1, low=1, high=1) == 1
    for bounds in ({"low": 1.5}, {"high": 0.5}, {"above": 1}, {"below": 1}):
        with pytest.raises(ValueError, match="f: x must be a finite number "):
            checks.real("f", "x", 1, **bounds)


@pytest.mark.parametrize("value", ["1", None, False, np.False_, 1j, [1.0], np.array([1.0])])
def test_real_refuses_other_types(value):
    with pytest.raises(TypeError, match="f: x must be a finite number"):
        checks.real("f", "x", value)


def test_boolean_and_choice():
    assert checks.boolean("f", "b", np.True_) is True
    with pytest.raises(TypeError, match="f: b must be True or False, got 1"):
        checks.boolean("f", "b", 1)
    assert checks.choice("f", "c", "x", ("x", "y")) == "x"
    with pytest.raises(ValueError, match="f: c must be one of 'x', 'y', got 'z'"):
        checks.choice("f", "c", "z", ("x", "y"))
    with pytest.raises(TypeError, match="f: c must be one of 'x', 'y', got 3"):
        checks.choice("f", "c", 3, ("x", "y"))


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [10**5000, "x" * 5000, Unprintable(), np.zeros(10000)], ids=type)
def test_shown_is_short_for_anything(value):
    assert 0 < len(checks.shown(value)) < 120


@pytest.mark.parametrize("value", [None, True, "1", [1.0], math.nan, -math.inf, 10**400])
def test_a_logged_value_without_a_finite_number(value):
    assert checks.finite_or_none(value) is None


@pytest.mark.parametrize("value", [0, -3, 1.5, 2**900])
def test_a_logged_number_comes_back_as_float(value):
    got = checks.finite_or_none(value)
    assert got == value
    assert type(got) is float
