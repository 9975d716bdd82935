"""A finding and an explanation, as they are read."""

from __future__ import annotations

from loopos.health.explain.findings import CONFIDENCE, LIKELY, MEANING, Explanation, Finding

FIRST = Finding("a", LIKELY, "this.", ("line 1: x", "line 2: y"), "look")
SECOND = Finding("b", LIKELY, "that.", ("line 1: x", "line 2: y"), "look again")


def test_every_degree_of_confidence_has_a_meaning():
    assert set(MEANING) == set(CONFIDENCE)


def test_evidence_that_was_shown_is_not_shown_twice():
    text = str(Explanation((FIRST, SECOND), (), ("3 lines", "2 entries"), ("it is odd",)))
    assert text.splitlines() == [
        "3 lines; 2 entries.",
        "1. a (likely): this.",
        "    line 1: x",
        "    line 2: y",
        "    check: look",
        "2. b (likely): that.",
        "    the same lines",
        "    check: look again",
        "Note: it is odd.",
    ]


def test_doubts_stand_apart_from_causes():
    explanation = Explanation((FIRST,), (SECOND,), ("1 line",), ())
    assert explanation.causes == ("a",)
    assert "not borne out:\n- b (likely)" in str(explanation)
