"""How a symptom is recognised: no word shuts out a sentence of its own pattern, only a full stop ends a sentence."""

from __future__ import annotations

import re

import pytest

from loopos.health.explain import halves
from loopos.health.explain.claims import CLAIMS
from loopos.health.explain.sentences import SYMPTOMS
from loopos.health.explain.symptoms import IN_SENTENCE, Hits, is_negated, symptom

from .pattern_samples import branches

RULES = SYMPTOMS + halves.SYMPTOMS + CLAIMS


def shut_out(rule):
    """What the pattern would match and the words keep from being tried."""
    ways = [way for branch in branches(rule.pattern) for way in branch]
    return [way for way in ways if not any(word in way.lower() for word in rule.words)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.cause}-{RULES.index(rule)}")
def test_every_pattern_passes_its_own_word(rule):
    assert all(branches(rule.pattern)), "an alternative has no sample: the test does not cover it"
    assert not shut_out(rule)
    assert all(word == word.lower() for word in rule.words)


def test_a_word_that_shuts_out_a_sentence_would_be_found():
    """As it was with row 34 of the list of bugs."""
    rule = symptom("x", "certain", "out of", r"id is out of range|Assertion `t >= 0 && t < n_classes`", "", "")
    assert shut_out(rule) == ["Assertion `t >= 0 && t < n_classes`"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.cause}-{RULES.index(rule)}")
def test_what_a_rule_says_is_whole_sentences(rule):
    assert rule.says.endswith((".", ".)"))
    assert rule.says.count("(") == rule.says.count(")")


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("values (e.g., 3)", True),
        ("at 0.5 of all", True),
        ("one. Two", False),
        ("one.\ntwo", False),
        ("one, two", True),
    ],
)
def test_a_dot_inside_a_sentence_ends_none(text, whole):
    assert bool(re.fullmatch(f"{IN_SENTENCE}*", text, re.I)) is whole


def test_a_reading_that_gives_nothing_is_no_hit():
    rule = symptom(
        "x", "certain", "n =", r"n = (?P<n>\d+)", "n is {n}.", "", lambda m: {"n": m["n"]} if int(m["n"]) > 5 else None
    )
    hits = Hits((rule,))
    for line, text in enumerate(("n = 3", "N = 7", "n = 9"), 1):
        hits.look(line, text)
    (found,) = hits.findings()
    assert (found.says, found.evidence) == ("n is 7.", ("line 2: N = 7", "line 3: n = 9"))


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("no NaN in the loss", True),
        ("number of nan iterations: 0", True),
        ("avoid nan", True),
        ("loss is nan", False),
        ("not a good run. The loss is nan", False),
        ("not, e.g., a nan", True),
    ],
)
def test_a_line_that_denies_a_nan_is_known(text, denied):
    assert is_negated(text, text.lower()) is denied
