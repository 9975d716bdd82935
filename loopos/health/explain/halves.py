"""bfloat16 and float16: what a text says of them, by their numbers.

| | binary digits | largest number | rounds to inf from | smallest normal | smallest |
|---|---|---|---|---|---|
| float32 | 24 | 3.4028e38 | beyond it | 1.18e-38 | 1.4e-45 |
| bfloat16 | 8 | 3.3895e38 | 3.3962e38 | 1.18e-38 | 9.2e-41 |
| float16 | 11 | 65504 | 65520 | 6.1e-5 | 6.0e-8 |

bfloat16 lacks digits, float16 lacks range: what is said of one seldom holds for the other.
"""

from __future__ import annotations

import re

import numpy as np

from .findings import CERTAIN, LIKELY
from .symptoms import DENIED, Symptom, symptom

FLOAT32_MAX = float(np.finfo(np.float32).max)
BFLOAT16_INF = (2 - 2.0**-8) * 2.0**127  # the first number that rounds to inf: half a step beyond the largest
FLUSHED = 1e-33  # products below it lose their lower pieces, on matrix tiles (two and three pieces of bfloat16)
_B = r"\b(?:bfloat16|bf16)\b"
_H = r"\b(?:float16|fp16|half)\b"
_NUMBER = r"(?<![\w.])[-−]?\d{1,9}(?:\.\d{1,15})?(?:e[-+]?\d{1,3})?(?![\w.]*\w)"
_AMOUNT = re.compile(
    rf"(?:\b(?:at|of|above|beyond|below|with|for|to|logits?|scores?|values?|softmax|exp)\b[\s(:=]{{0,3}}"
    rf"(?:up to |around |about |~ ?|max )?|[(=<>±]\s?)(?P<number>{_NUMBER})",
    re.I,
)
_AFTER = 24  # characters behind a match in which it may be taken back
_ANY = re.compile(_NUMBER, re.I)
_NEEDLESS = re.compile(r"n['’]t\b|\b(?:unlike|needless|unnecessary|unneeded|only for|cannot|nor|instead)\b", re.I)
_CURED = re.compile(r"\b(?:gone|resolved|fix(?:ed|es)|cured?s?|stop(?:s|ped)|solved?s?|was nan before)\b", re.I)
_OTHER = re.compile(rf"{_H}|\b(?:than|int8|int4|fp8|float8|nf4|8[- ]bit|4[- ]bit)\b", re.I)
_LUMPED = rf"(?:{_B}\s?(?:/|,|\+|and|or|&)\s?{_H}|{_H}\s?(?:/|,|\+|and|or|&)\s?{_B})[^\n]{{0,60}}\b(?:over|under)flow"
_BOTH = re.compile(_LUMPED, re.I)
_REMEDY = (  # bfloat16 was given up for it
    rf"(?P<remedy>\b(?:amp|mixed[- ]precision|autocast)\b[^\n]{{0,30}}{_B}[^\n]{{0,30}}"
    r"\b(?:off|fp32|float32|disabled)\b[^\n]{0,40}\boverflow"
    r"|\b(?:disabl\w+|off|without|turned off|switched off)\b[^\n]{0,20}\b(?:amp|mixed[- ]precision|autocast)\b"
    rf"[^\n]{{0,20}}\b(?:avoid|prevent|against|stop|fix)\w*[^\n]{{0,12}}{_B}\W{{0,2}}(?:overflow|issue|problem|instab)\w*)"
)


def _lost_in_bfloat16(number: float) -> bool:
    """Whether a finite float32 is none in bfloat16."""
    return BFLOAT16_INF <= abs(number) <= FLOAT32_MAX


def _numbers(text: str, pattern: re.Pattern[str] = _ANY) -> list[float]:
    """Those of a text, NaN for what is none after all."""
    found = (match["number"] if "number" in match.groupdict() else match[0] for match in pattern.finditer(text))
    return [float(each.replace("−", "-")) for each in found]


def _overflow(match: re.Match[str]) -> dict[str, str] | None:
    """That bfloat16 overflowed: no claim where it is denied, where float16 is meant too, or where a number of the line
    is one that only float32 has."""
    spoken = match.string[match.start() : match.end() + _AFTER]
    if _BOTH.search(match.string):
        return None
    if not match["remedy"] and (DENIED.search(match[0]) or _OTHER.search(match[0]) or _CURED.search(spoken)):
        return None
    numbers = _numbers(match.string, _AMOUNT)
    if any(map(_lost_in_bfloat16, _numbers(match.string))):
        return None
    small = [number for number in numbers if abs(number) < BFLOAT16_INF]
    return {"number": f" {max(small, key=abs):g} is far within it." if small else ""}


def _more_digits(match: re.Match[str]) -> dict[str, str] | None:
    spoken = match.string[match.start() : match.end() + _AFTER]
    return None if DENIED.search(match[0]) or _OTHER.search(spoken) else {}


def _needs_scaling(match: re.Match[str]) -> dict[str, str] | None:
    spoken = match.string[: match.end() + _AFTER]
    return None if DENIED.search(spoken) or _NEEDLESS.search(spoken) or _OTHER.search(match[0]) else {}


def _underflow(match: re.Match[str]) -> dict[str, str] | None:
    """That a number vanished in bfloat16: no claim where one is named that does, or an update."""
    numbers = [abs(number) for number in _numbers(match.string)]
    if DENIED.search(match[0]) or _OTHER.search(match[0]) or _BOTH.search(match.string):
        return None
    if re.search(r"\bupdates?\b", match.string, re.I) or any(0 < number < FLUSHED for number in numbers):
        return None
    small = [number for number in numbers if 0 < number < 1e-3]
    return {"number": f" {min(small):g} is an ordinary number in both." if small else ""}


def _confused(match: re.Match[str]) -> dict[str, str] | None:
    return None if _NEEDLESS.search(match[0]) else {}


_RANGE = (
    "bfloat16 has the range of float32 (3.4e38), so what overflows in it overflows in float32 too; it lacks digits, "
    "not range."
)
CLAIMS: tuple[Symptom, ...] = (
    symptom(
        "bfloat16-overflow",
        CERTAIN,
        "bfloat16|bf16",
        rf"{_REMEDY}|{_B}[^\n]{{0,60}}?(?:overflow|\bnan\b|\binf\b)|(?:\w+ )?(?:overflow|\bnan\b)[^\n]{{0,40}}?{_B}",
        _RANGE + "{number} Only what is between 3.3962e38 and 3.4028e38 is lost. The type that overflows early is "
        "float16, at 65504.",
        "repeat the step in float32: if it is NaN there, precision was not the cause",
        _overflow,
    ),
    symptom(
        "bfloat16-digits",
        CERTAIN,
        "bfloat16|bf16",
        r"\b(?:better|higher|more|improved|greater)\b[^\n]{0,20}\b(?:precision|precise|accura\w+|digits)\b"
        rf"[^\n]{{0,12}}{_B}|{_B}[^\n]{{0,24}}\b(?:better|higher|more|improved|greater) (?:numerical )?"
        r"(?:precision|precise|accura\w+|digits)\b",
        "bfloat16 has 8 binary digits, float16 has 11 and float32 24: of the three it is the least precise. What it "
        "has is the range of float32.",
        "compare loss and gradients of one batch in bfloat16 and in float32; of a model of LoopOS loopos doctor does",
        _more_digits,
    ),
    symptom(
        "loss-scaling",
        CERTAIN,
        "bfloat16|bf16",
        rf"{_B}[^\n]{{0,40}}\b(?:loss[- ]?scal\w+|grad\w*[- ]?scaler)|\b(?:loss[- ]?scal\w+|grad\w*[- ]?scaler)\b"
        rf"[^\n]{{0,40}}{_B}",
        "loss scaling is for float16, in which what is below 3e-8 becomes 0. bfloat16 goes down to 1.2e-38 as float32 "
        "does: a scale changes nothing there, and a scaler that skips steps hides why they were not finite.",
        "take the scaler out; a step that is not finite without it has another cause",
        _needs_scaling,
    ),
    symptom(
        "bfloat16-underflow",
        CERTAIN,
        "underflow|vanish|flush",
        rf"{_B}[^\n]{{0,40}}\b(?:underflow|vanish|flush)\w*|\b(?:underflow|vanish|flush)\w*[^\n]{{0,40}}{_B}",
        "bfloat16 goes as far down as float32 (1.2e-38), so no gradient vanishes in it that float32 would "
        "keep.{number} The type that loses them is float16, below 3e-8. What bfloat16 loses is an update of less than "
        "2^-9 of a weight that is kept in it.",
        "repeat the step in float32: if the gradient is 0 there, precision was not the cause",
        _underflow,
    ),
    symptom(
        "halves-confused",
        CERTAIN,
        "bfloat16|bf16",
        _LUMPED,
        "the two fail differently. float16 ends at 65504 and wants its loss scaled; bfloat16 has the range of float32, "
        "so there is no overflow to handle, and 8 binary digits.",
        "say which of the two it was, and repeat the step in float32: if it is not finite there, neither is to blame",
        _confused,
    ),
)


def _between(match: re.Match[str]) -> dict[str, str] | None:
    lost = [number for number in _numbers(match.string) if _lost_in_bfloat16(number)]
    return {"number": f"{lost[0]:.6g}"} if lost else None


def _affirmed(match: re.Match[str]) -> dict[str, str] | None:
    return None if DENIED.search(match[0]) else {}


def _type(match: re.Match[str]) -> dict[str, str] | None:
    limit = {"half": "float16 ends at 65504", "bfloat16": "bfloat16 ends at 3.3895e38"}.get(match["type"].lower())
    return None if limit is None else {"limit": limit}


def _flushed(match: re.Match[str]) -> dict[str, str] | None:
    small = [abs(number) for number in _numbers(match.string) if 0 < abs(number) < FLUSHED]
    return {"number": f"{min(small):g}"} if small else None


SYMPTOMS: tuple[Symptom, ...] = (
    symptom(
        "half-precision",
        CERTAIN,
        "without overflow",
        r"value cannot be converted to type (?:at::|c10::)?(?P<type>\w+) without overflow",
        "{limit}, and a number beyond that was to be written into such a tensor. It is most often the filler of a "
        "mask: finfo(float32).min = -3.4028e38, which only float32 holds, or -1e9, which float16 does not.",
        "fill with torch.finfo(scores.dtype).min, or -inf where no row is masked whole",
        _type,
    ),
    symptom(
        "bfloat16-range",
        LIKELY,
        "finfo",
        rf"{_B}[^\n]{{0,120}}\bfinfo\((?:\w+\.)?float32\)\.(?:min|max)|\bfinfo\((?:\w+\.)?float32\)\.(?:min|max)"
        rf"[^\n]{{0,120}}{_B}",
        "the largest float32, 3.4028e38, is inf in bfloat16, which ends at 3.3895e38. As the filler of a mask it is "
        "then -inf, and a row that is masked whole is NaN.",
        "fill with finfo of the tensor's own type",
        _affirmed,
    ),
    symptom(
        "bfloat16-range",
        CERTAIN,
        "bfloat16|bf16",
        rf"{_B}",
        "{number} is finite in float32 and rounds to inf in bfloat16, whose largest number is 3.3895e38.",
        "ask where a number of that size comes from: it is a filler, or about to overflow in float32 too",
        _between,
    ),
    symptom(
        "bfloat16-update",
        CERTAIN,
        "bfloat16|bf16",
        rf"\bupdates?\b[^\n]{{0,60}}\b(?:lost|vanish\w*|too small|no effect|round(?:s|ed)? (?:away|off|to (?:0|zero))"
        rf"|swallow\w*|underflow\w*)[^\n]{{0,60}}{_B}|{_B}[^\n]{{0,80}}\bupdates?\b[^\n]{{0,60}}\b(?:lost|vanish\w*"
        r"|too small|no effect|round(?:s|ed)? (?:away|off|to (?:0|zero))|swallow\w*|underflow\w*)",
        "a weight that is kept in bfloat16 has 8 binary digits, so an update of less than 2^-9 (0.2 %) of it is "
        "rounded away, every time. Weights and moments in float32 keep it, with products in bfloat16: so does LoopOS.",
        "count the weights that one update changes; keep the weights in float32, or round them stochastically",
        _affirmed,
    ),
    symptom(
        "bfloat16-flush",
        CERTAIN,
        "amx|tile|bfloat16|bf16",
        rf"(?:{_B}|\bamx\b|\btiles?\b)[^\n]{{0,80}}\b(?:underflow|flush|denormal|subnormal|vanish|zero)\w*"
        rf"|\b(?:underflow|flush|denormal|subnormal|vanish)\w*[^\n]{{0,80}}(?:{_B}|\bamx\b|\btiles?\b)",
        "matrix tiles take a denormal (below 1.2e-38) as 0, and a product below 1e-33 of numbers in two pieces of "
        "bfloat16 loses what the lower pieces add: {number} is there.",
        "print the operands' magnitudes; scale what is that small before the product",
        _flushed,
    ),
)
