"""The keys of config.json as a family takes them: what is not taken is judged by name."""

from __future__ import annotations

import pytest

from loopos.errors import CheckpointError
from loopos.hf.reader import Settings, number


def settings(**values):
    return Settings("config.json", values)


def test_what_is_taken_is_not_judged():
    s = settings(a=3, b=0.5, c=True, d={"e": 1}, f="x")
    assert (s.size("a"), s.positive("b", 1.0), s.flag("c", False), s.table("d")) == (3, 0.5, True, {"e": 1})
    assert s.choice("f", "", {"x": "y"}) == "y"
    s.finish({}, frozenset())


def test_defaults():
    s = settings(a=None, t=None)
    assert (s.size("a", optional=True), s.size("gone", optional=True)) == (None, None)
    assert (s.positive("b", 2.0), s.probability("p", 0.1), s.flag("c", True), s.table("t")) == (2.0, 0.1, True, {})


def test_what_is_left_is_refused_by_name():
    s = settings(odd=1, fine=True, quiet=3, _private=4, nothing=None)
    with pytest.raises(ValueError, match="odd = 1 is not supported"):
        s.finish({"fine": (True,)}, frozenset({"quiet"}))
    with pytest.raises(ValueError, match="fine = True is not supported: it must be False"):
        settings(fine=True).finish({"fine": (False,)}, frozenset())
    with pytest.raises(ValueError, match="it must be null"):
        settings(fine=1).finish({"fine": ()}, frozenset())


def test_true_is_not_one():
    with pytest.raises(ValueError, match="flag = 1 is not supported"):
        settings(flag=1).finish({"flag": (True,)}, frozenset())


@pytest.mark.parametrize("value", [True, "1", None, 10**400, float("nan")])
def test_what_is_no_number(value):
    with pytest.raises(CheckpointError, match="a must be a"):
        number("config.json", "a", value, "greater than 0", lambda x: 0 < x < float("inf"))
