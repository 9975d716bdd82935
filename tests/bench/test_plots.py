"""Pictures: refused in a sentence without matplotlib; the numbers that are drawn. test_tables.py draws them."""

from __future__ import annotations

import pytest

from loopos.bench import plots, suites


def test_without_matplotlib_it_says_what_to_install(without):
    without("matplotlib")
    with pytest.raises(ValueError, match="pip install matplotlib"):
        plots.require()


def test_every_suite_has_a_picture_and_every_engine_a_colour():
    assert set(plots.SUITES) == set(suites.SUITES)
    assert {engine for suite in suites.SUITES.values() for engine in suite.engines} <= set(plots.COLOURS)


def test_an_engine_that_is_absent_somewhere_leaves_a_gap():
    both = [{"peer": "loopos", "x": 1}, {"peer": "torch", "x": 2}]
    items = [{"peers": both}, {"peers": [{"peer": "loopos", "x": 3}]}]
    assert plots._by_engine(items, "x", 10) == {"loopos": [10, 30], "torch": [20, None]}
