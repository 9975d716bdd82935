"""A sentence that tells of a symptom: how it is recognised in a line, and how hits are counted and reported.

A rule looks at one line at a time. One of its ``words`` must be in the line (lower case) before its pattern is tried:
most lines have none, and a search for a word is cheap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .findings import Finding
from .logs import shown
from .shapes import MARK, cut

_QUOTES = 3
IN_SENTENCE = r"(?:[^.\n]|\.(?!\s+(?-i:[A-Z])|\s*$))"  # a character: the dot of "e.g." or 0.5 ends no sentence
_NEGATED = re.compile(
    rf"\b(?:no|without|not|never)\b{IN_SENTENCE}{{0,30}}\bnan\b|\bnan\b[^\n:=]{{0,30}}[:=]\W*0\b|isnan|=\s?False|prevent"
    r"|avoid|eliminated"
    rf"|\b0 (?:steps?|batch(?:es)?|updates?|iterations?|rows?|examples?|gradients?|values?|elements?)\b"
    rf"{IN_SENTENCE}{{0,30}}\bnan\b",
    re.I,
)
DENIED = re.compile(r"\b(?:no|not|never|without|avoid\w*|prevent\w*|against|instead)\b", re.I)
COUNT_LABELS = (
    "count the labels that are not -100 (or the ignore_index), per row of the first batch: 0 is the proof. Usual "
    "reasons: a prompt as long as the maximum length, a response template that is not found, padding taken for the "
    "response"
)
FIRST_BAD = "name the first tensor that is not finite: run that one step with every operation's output looked at"


@dataclass(frozen=True)
class Symptom:
    """says: may name groups of the pattern in braces, or what ``reading`` makes of the match: the names and their
    texts, or None where the numbers in the line do not bear the sentence."""

    cause: str
    confidence: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]
    says: str
    check: str
    reading: Callable[[re.Match[str]], Mapping[str, str] | None] | None = None

    def names(self, match: re.Match[str]) -> Mapping[str, str] | None:
        return self.reading(match) if self.reading else {name: text or "?" for name, text in match.groupdict().items()}


def symptom(cause: str, confidence: str, words: str, pattern: str, says: str, check: str, reading=None) -> Symptom:
    """words: separated by a bar."""
    return Symptom(cause, confidence, tuple(words.split("|")), re.compile(pattern, re.I), says, check, reading)


class Hits:
    """The first lines that match each symptom, and how many do."""

    def __init__(self, symptoms: tuple[Symptom, ...]):
        self._symptoms = symptoms
        self._words = re.compile("|".join(re.escape(word) for symptom in symptoms for word in symptom.words))
        self._numeric = [(word, symptom) for symptom in symptoms for word in symptom.words if MARK in cut(word)[0]]
        self._lines: dict[Symptom, list[str]] = {}
        self._count: dict[Symptom, int] = {}
        self._names: dict[Symptom, Mapping[str, str]] = {}

    def candidates(self, low: str) -> list[Symptom]:
        """Those that a line may match which is ``low``, in lower case, but for its numbers; :meth:`look` adds those
        whose word is a number."""
        if not self._words.search(low):
            return []
        return [symptom for symptom in self._symptoms if any(word in low for word in symptom.words)]

    def look(self, line: int, text: str, negated: bool = False, candidates: list[Symptom] | None = None) -> None:
        """negated: the line says that there is no NaN. candidates: those of its shape, where they are known."""
        low = text.lower()
        if candidates is None:
            candidates = self.candidates(low)
        if more := [symptom for word, symptom in self._numeric if word in low and symptom not in candidates]:
            candidates = candidates + more
        for symptom in candidates:
            if negated and "nan" in symptom.words:
                continue
            match = symptom.pattern.search(text)
            names = None if match is None else symptom.names(match)
            if names is None:
                continue
            self._count[symptom] = self._count.get(symptom, 0) + 1
            kept = self._lines.setdefault(symptom, [])
            if len(kept) < _QUOTES:
                kept.append(f"line {line}: {shown(text)}")
            self._names.setdefault(symptom, names)

    def findings(self) -> Iterator[Finding]:
        for symptom in self._symptoms:
            if symptom in self._lines:
                more = self._count[symptom] - len(self._lines[symptom])
                evidence = (*self._lines[symptom], *([f"and {more} more"] if more else []))
                names = self._names[symptom]
                says, check = (text.format(**names) if names else text for text in (symptom.says, symptom.check))
                yield Finding(symptom.cause, symptom.confidence, says, evidence, check)


def is_negated(text: str, low: str) -> bool:
    """Whether a line that has the word NaN says that there is none."""
    return "nan" in low and bool(_NEGATED.search(text))
