"""Strings that a regular expression matches, made from the expression itself: one for each of its alternatives."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from re import _constants as c
from re import _parser as parser

_MOST = 5000
_WIDE = "x1 "  # tried in this order where any of a set will do


def branches(pattern: re.Pattern[str]) -> list[list[str]]:
    """Of each outermost alternative every way through its branches, with the fewest repetitions, or a blank where there
    may be something; what look-arounds forbid is left out."""
    tree = list(parser.parse(pattern.pattern, pattern.flags))
    while tree and tree[0][0] is c.AT:  # what all alternatives begin with
        tree = tree[1:]
    outer = tree[0][1][1] if len(tree) == 1 and tree[0][0] is c.BRANCH else [tree]
    return [[way for way in itertools.islice(_of(part), _MOST) if pattern.search(way)] for part in outer]


def _of(tree: Iterable) -> Iterator[str]:
    parts = [list(itertools.islice(_one(op, value), 500)) for op, value in tree]
    return map("".join, itertools.product(*parts))


def _one(op, value) -> Iterator[str]:
    if op is c.LITERAL:
        yield chr(value)
    elif op is c.BRANCH:
        for part in value[1]:
            yield from _of(part)
    elif op is c.SUBPATTERN:
        yield from _of(value[3])
    elif op in (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT):
        least, _, part = value
        if least:
            yield from (way * least for way in _of(part))
        else:
            yield from ("", " ", *itertools.islice(_of(part), 1))
    elif op is c.IN:
        yield next((char for char in _WIDE if _within(char, value)), None) or next(
            chr(code) for code in range(32, 0x10000) if _within(chr(code), value)
        )
    elif op in (c.ANY, c.NOT_LITERAL):
        yield "x"
    else:  # a place or a look-around takes no character
        yield ""


def _within(char: str, value) -> bool:
    shown = parser.SubPattern(parser.State(), [(c.IN, value)])
    return re.compile(_source(shown)).fullmatch(char) is not None


def _source(tree) -> str:
    ((_, value),) = tree
    kinds = {c.CATEGORY_DIGIT: r"\d", c.CATEGORY_NOT_DIGIT: r"\D", c.CATEGORY_SPACE: r"\s", c.CATEGORY_NOT_SPACE: r"\S"}
    kinds |= {c.CATEGORY_WORD: r"\w", c.CATEGORY_NOT_WORD: r"\W"}
    text = ""
    for op, what in value:
        if op is c.NEGATE:
            text += "^"
        elif op is c.LITERAL:
            text += re.escape(chr(what))
        elif op is c.RANGE:
            text += f"{re.escape(chr(what[0]))}-{re.escape(chr(what[1]))}"
        else:
            text += kinds[what]
    return f"[{text}]"
