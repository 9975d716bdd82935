"""Remedies and statements that post-mortems repeat and that do not hold: each with the arithmetic that says so."""

from __future__ import annotations

import math
import re

from . import halves
from .findings import CERTAIN, LIKELY, POSSIBLE
from .symptoms import DENIED, Symptom, is_negated, symptom

EXP_LIMIT = 88.7228  # ln of the largest float32
_NUMBER = r"\d{1,9}(?:\.\d{1,12})?(?:e[-+]?\d{1,3})?"
_SETTING = re.compile(
    r"[\W\d]{0,40}(?:(?:info|debug|config|args?)\W{1,4})?[\"']?[\w.-]{1,60}[\"']?\s{0,8}"  # a name
    r"(?::(?!:)|=(?!=)|\s(?=\d))\s{0,8}(?:[\"'][^\"']{0,60}[\"']|[-+]?[\d._]+(?:e[-+]?\d+)?"  # its value
    r"|true|false|yes|no|none|null|on|off|auto|fp16|bf16|bfloat16|float(?:16|32))"
    r"\s{0,8}(?:$|[,;()#}\]]|//)",  # and the end, or a remark
    re.I,
)
_LABEL = re.compile(  # what a person called a run
    r"\W{0,40}[\w.-]{0,40}(?:name|dir|path|folder|project|experiment|group|tags?|branch)[\"']?\s{0,4}[:=]\s{0,4}\S{1,200}\s*$",
    re.I,
)
FAILURE_WORDS = ("nan", "diverge", "explo")  # one of them is in what the pattern below matches
_FAILURE = re.compile(r"\bnan|\bdiverge[sd]?\b|\bexplo(?:d|sion)", re.I)
_NEAR = 24  # characters before a word in which it is denied


def is_setting(line: str) -> bool:
    """Whether a line is one of a configuration (``clip: 1.0  # to stabilize``): a setting claims nothing."""
    return _SETTING.match(line) is not None or _LABEL.match(line) is not None


def mentions_failure(line: str, low: str) -> bool:
    """Whether a line speaks of a run that went wrong: then what is said of remedies is a claim."""
    if not any(word in low for word in FAILURE_WORDS) or is_negated(line, low):
        return False
    return any(
        not DENIED.search(line[max(0, match.start() - _NEAR) : match.start()]) for match in _FAILURE.finditer(line)
    )


def _clamp(match: re.Match[str]) -> dict[str, str] | None:
    """What a clamp of logits at these bounds does; None where there are bounds that no logits are clamped to."""
    bounds = [
        abs(float(text.replace(" ", ""))) for text in re.findall(rf"[-+−±]?\s?({_NUMBER})", match["bounds"] or "")
    ]
    bound = max(bounds, default=None)
    if bound is None:
        return {"does": "a clamp of logits hides how large they are"}
    if bound > EXP_LIMIT:
        return {
            "does": f"a clamp at {bound:g} does not save a softmax without maximum subtraction (exp overflows float32 "
            f"above {EXP_LIMIT:.2f}), one with it needs none"
        }
    return {
        "does": f"a clamp at {bound:g} keeps exp finite in float32, and a softmax that subtracts its maximum needs none"
    }


def _symmetric_clamp(match: re.Match[str]) -> dict[str, str] | None:
    """The same where logits are not named: of bounds on both sides of 0, as far out as only logits are."""
    low, high = float(match["low"].replace("−", "-")), float(match["high"])
    return _clamp(match) if low == -high and high >= 10 else None


def _smaller_eps(match: re.Match[str]) -> dict[str, str] | None:
    old, new = float(match["old"]), float(match["new"])
    if not 0 < new < old < 1:
        return None
    lost = [f"1 + {new:g} is 1 in float32"] if new <= 2.0**-24 else []
    lost += [f"{new:g} is 0 in float16"] if new <= 2.0**-25 else []
    gains = f"the largest gain of a normalisation, 1/sqrt(eps), grows from {old**-0.5:,.0f} to {new**-0.5:,.0f}"
    if "adam" in match.string.lower():
        gains = f"the largest factor on a gradient's mean in Adam, 1/eps, grows from {1 / old:.3g} to {1 / new:.3g}"
    return {"why": "".join(f"{each}, " for each in lost) + ("and " if lost else ""), "gains": gains}


def _cap(match: re.Match[str]) -> dict[str, str] | None:
    floor = float(match["floor"])
    return {"floor": f"{floor:g}", "cap": f"{-math.log(floor):.2f}"} if floor > 0 else None


BEYOND = "beyond-the-entries"  # holds where the log has too few entries to show anything
_COUNT_CLAMPED = (
    "subtract the row maximum (or use a fused cross-entropy) and take the clamp out; count how many logits it touches"
)
CLAIMS: tuple[Symptom, ...] = (
    *halves.CLAIMS,
    symptom(
        "clamped-logits",
        CERTAIN,
        "logit",
        r"(?:logit[^\n]{0,60}?\bcla?[mi]p\w*|\b(?:clamp|clip)\w*[^\n]{0,40}?logits?)\b"
        rf"(?P<bounds>[^\n]{{0,20}}?(?:[-−±]\s?|\b(?:at|to|above|beyond) ){_NUMBER}(?:\W{{1,12}}{_NUMBER})?)?",
        "{does}; outside the clamp the gradient is 0, so those logits stop learning in silence.",
        _COUNT_CLAMPED,
        _clamp,
    ),
    symptom(
        "clamped-logits",
        POSSIBLE,
        "clamp",
        rf"^(?!.*logit).*?\bclamp\w*(?P<bounds>[^\n]{{0,20}}?(?P<low>[-−]{_NUMBER})\s?(?:,|to|\.\.)\s?\+?"
        rf"(?P<high>{_NUMBER}))",
        "if it is logits that are clamped: {does}; outside the clamp the gradient is 0, so those stop learning in "
        "silence.",
        _COUNT_CLAMPED,
        _symmetric_clamp,
    ),
    symptom(
        "smaller-eps",
        CERTAIN,
        "eps",
        rf"\beps\w*\b[^\n,;]{{0,30}}?(?<![\d.])(?P<old>{_NUMBER})\s?(?:->|→|=>|to|â†’|\|)\s?(?P<new>{_NUMBER})\b",
        "a smaller eps is less stable, not more: {why}{gains}.",
        "keep the larger one inside the root; look at the smallest variance that comes in",
        _smaller_eps,
    ),
    symptom(
        "smaller-batch",
        LIKELY,
        "batch",
        r"(?:smaller|reduce|lower)[^\n]{0,20}batch[ _-]?size|or smaller batch|smaller batches",
        "a smaller batch makes gradients noisier; it cures no NaN.",
        "run the failing batch alone, row by row: which row makes it?",
    ),
    symptom(
        "clipping",
        CERTAIN,
        "clip",
        r"clip[^\n]{0,60}(?:nan|explo|stab|inf\b)|(?:nan|explo)[^\n]{0,40}clip|aggressive\w*[^\n]{0,20}clip",
        "clipping does not stop a NaN: its norm is NaN, and so is everything it is multiplied with; a norm that is "
        "infinite turns all other gradients into 0.",
        "look at the norm before clipping; skip or stop at one that is not finite, as a branch",
    ),
    symptom(
        "skipped-batches",
        CERTAIN,
        "skip",
        r"skip\w* (?:the )?(?:nan|bad|non-?finite)[^\n]{0,20}(?:batch|step|update)|(?:nan|bad) batch\w*[^\n]{0,20}skip",
        "skipping without a budget hides a run in which every batch is NaN.",
        "count attempted, applied and skipped updates, and stop after a few in a row",
    ),
    symptom(
        "replaced-values",
        CERTAIN,
        "nan",
        r"nan_to_num|(?:detects?|replac\w+|fix\w*|zero\w*)(?: and \w+)? nan(?:/inf)?[^\n]{0,20}(?:gradient|value|loss)",
        "a NaN that is replaced by a number hides its cause, and the optimizer then steps with an invented gradient.",
        "stop at the first one and look where it was born",
    ),
    symptom(
        "dead-guard",
        CERTAIN,
        "max(",
        r"max\(\s*(?:sum\w*|\w*sum)\s*,\s*(?P<floor>1e-\d{1,3})f?\s*\)",
        "after the row maximum is subtracted the sum of exponentials is at least 1, so this guard never acts. With a "
        "NaN it depends on the order of its arguments: std::max(NaN, c) is NaN and std::max(c, NaN) is c. On "
        "probabilities a floor of {floor} caps the loss at {cap}.",
        "find the row that makes the sum NaN: a +inf or NaN logit, or all of them -inf (everything masked)",
        _cap,
    ),
    symptom(
        "safe-loss",
        POSSIBLE,
        "safe loss",
        r"safe loss",
        "a loss made “safe” may only be one that no longer shows the NaN.",
        "see what it returns for a batch whose labels are all masked, and whether the update is then skipped",
    ),
    symptom(
        BEYOND,
        CERTAIN,
        "decreas|learning|stable|fully|verified|passed|no nan|meaningful",
        r"loss (?:is |values? )?decreas\w*|(?:model )?is (?:now )?learning|indicat\w+ learning|training is stable|"
        r"stable training|\b(?:successfully|fully)[^\n]{0,12} (?:resolv|eliminat|fix)\w*|fix\w* (?:is |are )?verified|"
        r"test passed|no nan values|(?:positive, )?meaningful loss",
        "this is said of fewer entries than can show it. Two losses have no trend: batches differ by more. That a "
        "fault did not come back in a few steps shows nothing where it came later, or at another rate.",
        "the same data, rate and steps as in the run that failed, logged at every step",
    ),
    symptom(
        "finite-is-not-healthy",
        CERTAIN,
        "finite",
        r"loss is finite",
        "finite is not healthy: isfinite passes 1e25.",
        "compare a loss with ln V, or with its own first values",
    ),
    symptom(
        "false-positive",
        LIKELY,
        "false positive",
        r"false positive",
        "a warning called a false positive was printed for a reason; for the order of scheduler and optimizer it is "
        "that no optimizer step had been done.",
        "count applied optimizer steps at that point",
    ),
    symptom(
        "unequal-pipelines",
        LIKELY,
        ".conj()",
        r"\.conj\(\)\.transpose\([^)]*\)\s*@\s*\w+",
        "A^H A is the complex conjugate of the mean of a a^H: beside a pipeline that uses the other order, training "
        "and evaluation see transposed matrices.",
        "feed one sample through both and compare every intermediate matrix",
    ),
    symptom(
        "half-and-quantized",
        LIKELY,
        "quantiz",
        r"(?:quantiz\w+[^\n]{0,60}(?:fp32|fp16|float16)|(?:fp32|fp16|float16)[^\n]{0,60}quantiz\w+)",
        "quantized frozen weights ask for float32 in what is trained and in the scaler, not for float32 everywhere.",
        "list the dtype of every parameter that is trained",
    ),
)

_EXP_OF = re.compile(r"(?:softmax|exp)\(\s?(-?\d{1,9}(?:\.\d{1,9})?)\s?\)", re.I)
_GATE = re.compile(
    r"(?P<scale>\d{1,9}(?:\.\d{1,9})?)\s?\*\s?(?:torch\.|np\.)?(?P<kind>sigmoid"
    r"|tanh)\([^)]*\)\s?\+\s?(?P<shift>\d{1,9}(?:\.\d{1,9})?)"
    r"|(?P<shift1>\d{1,9}(?:\.\d{1,9})?)\s?\+\s?(?:torch\.|np\.)?(?P<kind1>sigmoid|tanh)\(",
    re.I,
)
_RANGE = re.compile(r"range:?\s*\[?\(?\s*(-?\d{1,9}(?:\.\d{1,9})?)\s*,\s*(-?\d{1,9}(?:\.\d{1,9})?)", re.I)


def exp_argument(line: str) -> float | None:
    """The largest argument of a softmax or exp in the line that overflows float32 when its maximum is not
    subtracted."""
    values = [float(text) for text in _EXP_OF.findall(line)]
    return max((value for value in values if value > EXP_LIMIT), default=None)


def gate(line: str) -> tuple[str, str] | None:
    """(cause, sentence) on a gate such as ``0.5 * sigmoid(x) + 0.5`` that is not 1 at 0, or that reaches 0."""
    match = _GATE.search(line)
    if match is None:
        return None
    kind = (match["kind"] or match["kind1"]).lower()
    scale, shift = float(match["scale"] or 1), float(match["shift"] or match["shift1"])
    low, middle, high = (0.0, 0.5, 1.0) if kind == "sigmoid" else (-1.0, 0.0, 1.0)
    low, at_zero, high = (shift + scale * value for value in (low, middle, high))
    shape = f"{shift:g} + {scale:g}*{kind}(x) has the range ({low:g}, {high:g})"
    claimed = _RANGE.search(line[match.end() :])
    if claimed and not (math.isclose(float(claimed[1]), low) and math.isclose(float(claimed[2]), high)):
        shape += f", not ({claimed[1]}, {claimed[2]})"
    if at_zero != 1:
        if claimed and float(claimed[1]) + float(claimed[2]) == 2:
            low, high = float(claimed[1]), float(claimed[2])
        good, width = (1 - (high - low) / 2, high - low) if kind == "sigmoid" else (1.0, (high - low) / 2)
        return "gate-not-identity", (
            f"{shape}, and is {at_zero:g} at 0: not “no effect”. Through 32 layers that is {at_zero**32:.1g}. "
            f"{good:g} + {width:g}*{kind}(x) is 1 at 0."
        )
    if low == 0:
        return "gate-reaches-zero", (
            f"{shape}: in float32 it is exactly 0 for x below about -9. A factor of 0 stops signal and gradient; it "
            "makes no NaN."
        )
    return None
