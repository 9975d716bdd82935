"""The numbers of a line under their names, found once for all lines of one shape.

The lines of a log differ in their digits only. A line without them is its shape; what its numbers stand for, and which
rules may concern it, is found for the first line of a shape and holds for the others.
"""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from typing import Any

from .names import CLOCKS, HELD, HELD_OUT, NO_MEASUREMENT, OTHER, TRAIN, Name, name_of, tokens, words_of

MARK = "\x01"  # in place of a number
_NUMBER = re.compile(
    r"((?<![A-Za-z0-9_.])[-+]?(?:10(?:\^|\*\*)\{?[-+]?[0-9]{1,3}\}?"
    r"|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,6}(?![0-9,])(?:\.[0-9]+)?"  # 1,024.5
    r"|[0-9]+,[0-9]+(?![0-9.,])|[0-9]+(?:_[0-9]+){0,9}(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]{1,5}(?![0-9])|d[-+][0-9]{1,3}(?![0-9]))?"
    r"(?:\s?[×x*]\s?10\s?(?:\^|\*\*)\s?\{?[-+]?[0-9]{1,4}\}?)?)",
    re.I,
)
DIGITS = str.maketrans("123456789", "000000000")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:e[-+]?[0-9]{1,5})?", re.I)
_CLOCK = re.compile(r"[0-9]+,[0-9]+")  # the end of 12:30:00,123
DECIMAL_COMMA = re.compile(r"[-+]?(?:0|[0-9]+(?=,(?:[0-9]{1,2}|[0-9]{4,})(?![0-9]))|[0-9]{4,}),[0-9]+(?:e.*)?", re.I)
_TEN = re.compile(r"10(?:\^|\*\*)\{?([-+]?\d+)\}?")
_TIMES_TEN = re.compile(r"\s?[×x*]\s?10\s?(?:\^|\*\*)\s?\{?([-+]?\d+)\}?", re.I)
_PART = re.compile(
    rf"(?P<norm>\|\|\s?[\w.]{{1,40}}\s?\|\|(?:_\w{{1,6}})?)"
    rf"|(?P<bad>[-+]?(?:nan(?:\(\w{{0,8}}\))?|inf(?:inity)?|∞)(?![\w-]))"
    rf"|(?P<unit>{MARK}(?:[A-Za-z_%][\w/%]*|\.\w+|[轮輪步次个個秒号期回]))"
    rf"|(?P<value>{MARK}(?:\#\w+)?)"
    rf"|(?P<word>[^\W\d]\w*(?:[./@-]\w+)*(?:'s(?!\w))?)"
    rf"|(?P<end>[,;{{}}!?<>≤≥≠+/]|\.(?=\s))"
    rf"|(?P<mark>=>|[:=]|->|→|-|\||[\])])",
    re.I,
)
_LONGEST = 64  # characters of a number
_FILLERS = words_of(
    "is was finite now tensor array decimal np.array jnp.array np.float16 np.float32 np.float64 numpy.float32 "
    "numpy.float64 torch.tensor approximately"
)
_ABSENT = frozenset({"null", "none", "na", "n/a"})
_SHORTENED = frozenset({"val", "valid", "eval", "avg", "tr", "trn", "acc", "iter", "ep", "std", "no"})
_SPLITS = HELD | TRAIN
_HEADING = _SPLITS | words_of(
    "set split epoch step iter iteration phase metrics results result stats summary after on at in the of end "
    "batch data dataloader loop mode"
)
_BEFORE_VALUE = re.compile(r"\s*[\"'`(]?(?:tensor\()?")
_VALUE_ENDS = re.compile(r"\s*(?:[,;|)\]}\"'`]|$|[\w./]+\s?[:=])")
_PLAIN_TEXT = str.maketrans(
    {0x2212: "-", 0x3000: " ", 0x3002: ".", 0x3001: ",", 0xA0: " ", 0x2009: " ", 0x202F: " "}
    | {0xFF01 + i: chr(0x21 + i) for i in range(94)}
    | dict.fromkeys(map(ord, "│┃║┆┊"), "|")  # of tables that are drawn
)
_GROUPS = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")


@dataclass
class Shape:
    """entries: (values, losses) of each entry that such a line holds, as pairs of a name and an index into its numbers
    followed by ``words``, the numbers that are written as words (nan); rules: what explain keeps with it."""

    entries: list[tuple[list[tuple[str, int]], list[tuple[Name, int]]]]
    words: list[float | None]
    has_loss: bool
    may_be_header: bool = False
    rules: Any = None

    @property
    def used(self) -> set[int]:
        return {i for values, losses in self.entries for _, i in (*values, *losses)}

    def read(self, numbers: list[float | None]) -> list[tuple[dict[str, float], dict[Name, float]]]:
        """(values under canonical names, losses under theirs) of each entry of a line, of the numbers in it."""
        numbers = numbers + self.words
        entries = [
            ({n: numbers[i] for n, i in values}, {n: numbers[i] for n, i in losses}) for values, losses in self.entries
        ]
        return [tuple(map(_without_none, entry)) for entry in entries] if None in numbers else entries


def _without_none(values: dict[Any, float | None]) -> dict[Any, float]:
    return {name: value for name, value in values.items() if value is not None}


def plain(text: str) -> str:
    """Full-width signs and digits, blanks that do not break, the sign minus and entities of HTML, as ASCII has them."""
    if "&" in text and ";" in text:
        text = html.unescape(text)
    if text.isascii():
        return text
    return _GROUPS.sub("", text).translate(_PLAIN_TEXT)


def cut(text: str) -> tuple[str, list[str]]:
    """(the line with MARK in place of its numbers, the numbers)."""
    if MARK in text:
        text = text.replace(MARK, " ")
    parts = _NUMBER.split(text)
    return MARK.join(parts[::2]), parts[1::2]


def places_of(text: str, used: set[int]) -> list[tuple[int, int]] | None:
    """Where the numbers of a line are, when they are in the same places in every line that differs in digits only, and
    float() reads them; else None: digits that belong to a name, commas, powers of ten. used: the indices of those that
    stand for something; the place of others, as of a time of day, is (0, 0)."""
    if not text.isascii() or any(sign in text for sign in (MARK, "&", "^", "**")):
        return None
    places = [match.span() for match in _NUMBER.finditer(text)]
    numbers = [text[start:end] for start, end in places]
    counted = sum(map(str.isdigit, "".join(numbers))) == sum(map(str.isdigit, text))
    for i, (number, (_, end)) in enumerate(zip(numbers, places, strict=True)):
        if _FLOAT.fullmatch(number):
            continue
        if i in used or not _CLOCK.fullmatch(number) or text[end : end + 1] in (",", "."):
            return None
    return [place if i in used else (0, 0) for i, place in enumerate(places)] if counted else None


def number(text: str, decimal_comma: bool = False) -> float | None:
    """A number as logs write it: 1,024 or 1.7 × 10^25, nan, -nan(ind), 1.#INF; None for what is none. decimal_comma:
    what a comma means where it may be of thousands, too."""
    try:
        return float(text) if len(text) < _LONGEST else None
    except ValueError:
        pass
    text = text.strip().lower()
    sign = -1.0 if text.startswith("-") else 1.0
    bare = text.lstrip("+-")
    if "#" in bare or bare.startswith("nan"):
        return sign * math.inf if "#inf" in bare else math.nan
    if bare.startswith(("inf", "∞")):
        return sign * math.inf
    bare = bare.replace("d", "e")  # of Fortran
    if power := _TEN.fullmatch(bare):
        return sign * float(f"1e{power[1]}")
    power = _TIMES_TEN.search(bare)
    bare = _TIMES_TEN.sub("", bare)
    if "," in bare:
        dots = bare.rfind(".") > bare.rfind(",")
        comma = not dots and (decimal_comma or bool(DECIMAL_COMMA.fullmatch(bare))) and bare.count(",") == 1
        bare = bare.replace(".", "").replace(",", ".") if comma else bare.replace(",", "")
    try:
        return sign * float(f"{bare}e{power[1]}" if power and "e" not in bare else bare)
    except ValueError:
        return None


def numbers_of(texts: list[str], comma: bool = False) -> list[float | None]:
    """Of one line: a comma that must be a decimal one makes the others so."""
    try:
        if max(map(len, texts), default=0) < _LONGEST:
            return [float(text) for text in texts]
    except ValueError:
        pass
    comma = comma or has_decimal_comma(texts)
    return [number(text, comma) for text in texts]


def has_decimal_comma(texts: list[str]) -> bool:
    """Whether a comma in one of the numbers cannot be of thousands: 0,693 or 2,31."""
    return any("," in text and DECIMAL_COMMA.fullmatch(text) for text in texts)


def shape_of(template: str) -> Shape:
    """What the numbers of a line stand for; template: of :func:`cut`."""
    reader = _Slots(template)
    low = template.lower()
    if MARK in template or any(word in low for word in ("nan", "inf", "null", "∞")):
        reader.read()
    count, words, entries = template.count(MARK), [], []
    for slots in filter(None, reader.entries):
        values: dict[str, int] = {}
        losses: dict[Name, int] = {}
        for name, slot in sorted(slots, key=lambda each: each[0].rank):
            if not isinstance(slot, int):
                words.append(slot)
                slot = count + len(words) - 1
            if name.is_loss:
                losses.setdefault(name, slot)
            else:
                values.setdefault(name.label, slot)
        entries.append((list(values.items()), list(losses.items())))
    return Shape(entries, words, reader.has_loss)


class _Slots:
    """Goes along a line: words, up to a sign or the number that they name."""

    def __init__(self, template: str):
        self._template = template
        self.entries: list[list[tuple[Name, int | float | None]]] = [[]]
        self.has_loss = False
        self._labels: set[str] = set()
        self._phrase: list[str] = []
        self._closed = self._explicit = False  # a sign came after the phrase; it was : or =
        self._direct = False  # there are no words and at most a quote between that sign and the number
        self._held_out = self._loss_is_topic = False
        self._null_is_nan = '"nonfinite": ' in template  # a line of LoopOS; elsewhere it is what was not logged
        self._bare_norm: tuple[int, int] | None = None

    def read(self) -> None:
        index = sign_end = 0
        for part in _PART.finditer(self._template):
            kind, text = part.lastgroup, part[0]
            if kind == "value":
                self._value(number(f"1.{text[1:]}") if len(text) > 1 else index, part.end())
                index += 1
            elif kind == "bad" and not self._closed and (not self._phrase or self._name() is None):
                self._word(text)  # "number of nan iterations"
            elif kind == "bad":
                self._direct = bool(_BEFORE_VALUE.fullmatch(self._template, sign_end, part.start()))
                self._value(number(text), part.end())
            elif kind == "unit":
                self._end()
                index += 1
            elif kind == "norm" or kind == "word":
                self._word(text)
            elif kind == "mark":
                self._closed, self._explicit = True, text in (":", "=", "=>")
                sign_end = part.end()
            elif text != "." or not (self._phrase and self._phrase[-1].lower() in _SHORTENED):
                self._end()
                if text == "}":
                    self._held_out = False
        if self._bare_norm is not None and self.has_loss:
            entry, slot = self._bare_norm
            if all(name.quantity != "grad_norm" for name, _ in self.entries[entry]):
                self.entries[entry].append((Name("grad_norm", "grad_norm", 9), slot))

    def _word(self, text: str) -> None:
        text = text.removesuffix("'s")
        low = text.lower()
        if low in _ABSENT:
            if self._null_is_nan and self._phrase:
                name = self._name()
                if name is not None and (name.is_loss or name.quantity == "grad_norm"):
                    self._add(name, math.nan)
            self._phrase = []
        elif low in _FILLERS and self._phrase:
            self._explicit &= low not in ("is", "was", "now")
        else:
            if self._closed:
                self._end()
            self._phrase.append(text)
            del self._phrase[:-6]

    def _end(self) -> None:
        """The phrase names no number; perhaps it is a heading."""
        if self._phrase:
            found = {token for word in self._phrase for token in tokens(word)}
            if found & _SPLITS and found <= _HEADING:
                self._held_out = bool(found & HELD)
            elif (name := self._name()) is not None:
                self._loss_is_topic = name.is_loss
                self._held_out = self._held_out or name.quantity == HELD_OUT
        self._phrase, self._closed, self._explicit = [], False, False

    def _name(self) -> Name | None:
        last = self._phrase[-1]
        if self._loss_is_topic and len(self._phrase) == 1 and _SPLITS.issuperset(tokens(last)):
            return name_of(("loss", last))  # "loss train: 2.1, val: 2.3"
        return Name(OTHER, last) if last.startswith("||") else name_of(tuple(self._phrase), self._held_out)

    def _value(self, slot: int | float | None, end: int) -> None:
        if not self._phrase:
            return
        name, last = self._name(), self._phrase[-1]
        if name is not None:
            self._add(name, slot)
        elif isinstance(slot, int):
            if last.lower() == "norm" and len(self._phrase) == 1:
                self._bare_norm = (len(self.entries) - 1, slot)
        elif self._explicit and self._direct and _VALUE_ENDS.match(self._template, end):
            known = {token for word in self._phrase for token in tokens(word)}
            if not NO_MEASUREMENT & known and name_of((last,)) is None:
                self._add(Name(OTHER, last), slot)
        if name is not None:
            self._loss_is_topic = name.is_loss and _SPLITS.issuperset(tokens(last))  # not "loss: 2.3, val: 0.8"
            if name.quantity in CLOCKS and (loss := self._loss_before()):
                self._phrase = loss  # "loss at step 5: 2.5"
                return
            heading = not name.is_loss  # as in "Epoch(val) [1]"
            self._phrase = [word for word in self._phrase if heading and set(tokens(word)) <= _HEADING]
        self._end()

    def _loss_before(self) -> list[str]:
        """Of "loss at step", "loss"; nothing of other phrases."""
        for i in range(len(self._phrase) - 2, 0, -1):
            if self._phrase[i].lower() in ("at", "after", "for", "in"):
                name = name_of(tuple(self._phrase[:i]))
                return self._phrase[:i] if name is not None and name.is_loss else []
        return []

    def _add(self, name: Name, slot: int | float | None) -> None:
        if name.label in self._labels:
            if not (name.is_loss or (name.quantity in CLOCKS and any(known.is_loss for known, _ in self.entries[-1]))):
                return
            self.entries.append([])
            self._labels = set()
        self._labels.add(name.label)
        self.entries[-1].append((name, slot))
        self.has_loss |= name.is_loss
