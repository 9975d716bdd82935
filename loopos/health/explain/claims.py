"""Remedies and statements that post-mortems repeat and that do not hold: each with the arithmetic that says so."""

from __future__ import annotations

import math
import re

from .findings import CERTAIN, LIKELY, POSSIBLE
from .symptoms import Symptom, _symptom

EXP_LIMIT = 88.7228  # ln of the largest float32

CLAIMS: tuple[Symptom, ...] = (
    _symptom(
        "bfloat16-overflow",
        CERTAIN,
        "bfloat16",
        r"bfloat16[^\n]{0,60}(?:overflow|nan|inf\b)|(?:overflow|nan)[^\n]{0,40}bfloat16|bf16[^\n]{0,40}overflow",
        "bfloat16 has the range of float32 (3.4e38), so what overflows in it overflows in float32 too; it lacks "
        "digits, not range.",
        "repeat the step in float32: if it is NaN there, precision was not the cause",
    ),
    _symptom(
        "clamped-logits",
        CERTAIN,
        "clamp",
        r"logit[^\n]{0,60}clamp|clamp[^\n]{0,60}logit|logit[^\n]{0,40}\[\s?-\d+,\s?\+?\d+\]|[Cc]lamp to \[",
        "a clamp at 100 does not save a softmax without maximum subtraction (exp overflows float32 above 88.72), one "
        "with it needs none; and outside the clamp the gradient is 0, so those logits stop learning in silence.",
        "subtract the row maximum (or use a fused cross-entropy) and take the clamp out; count how many logits it "
        "touches",
    ),
    _symptom(
        "smaller-eps",
        CERTAIN,
        "eps",
        r"eps[^\n]{0,30}1e-0?5\W{1,12}1e-(?:0?[6-9]|1\d)\b|1e-0?5\s?(?:->|→|to|â†’)\s?1e-(?:0?[6-9]|1\d)\b",
        "a smaller eps is less stable, not more: 1 + 1e-8 is 1 in float32, 1e-8 is 0 in float16, and the largest gain "
        "of a normalisation, 1/sqrt(eps), grows from 316 to 10,000.",
        "keep 1e-5 inside the root; look at the smallest variance that comes in",
    ),
    _symptom(
        "smaller-batch",
        LIKELY,
        "batch",
        r"(?:smaller|reduce|lower)[^\n]{0,20}batch[ _-]?size|or smaller batch|smaller batches",
        "a smaller batch makes gradients noisier; it cures no NaN.",
        "run the failing batch alone, row by row: which row makes it?",
    ),
    _symptom(
        "clipping",
        CERTAIN,
        "clip",
        r"clip[^\n]{0,60}(?:nan|explo|stab|0\.5|inf\b)|(?:nan|explo)[^\n]{0,40}clip",
        "clipping does not stop a NaN: its norm is NaN, and so is everything it is multiplied with; a norm that is "
        "infinite turns all other gradients into 0.",
        "look at the norm before clipping; skip or stop at one that is not finite, as a branch",
    ),
    _symptom(
        "skipped-batches",
        CERTAIN,
        "skip",
        r"skip\w* (?:the )?(?:nan|bad|non-?finite)[^\n]{0,20}(?:batch|step|update)|(?:nan|bad) batch\w*[^\n]{0,20}skip",
        "skipping without a budget hides a run in which every batch is NaN.",
        "count attempted, applied and skipped updates, and stop after a few in a row",
    ),
    _symptom(
        "replaced-values",
        CERTAIN,
        "nan",
        r"nan_to_num|(?:detects?|replac\w+|fix\w*|zero\w*)(?: and \w+)? nan(?:/inf)?[^\n]{0,20}(?:gradient|value|loss)",
        "a NaN that is replaced by a number hides its cause, and the optimizer then steps with an invented gradient.",
        "stop at the first one and look where it was born",
    ),
    _symptom(
        "dead-guard",
        CERTAIN,
        "max(",
        r"max\(\s*(?:sum\w*|\w*sum)\s*,\s*1e-\d+f?\s*\)",
        "after the row maximum is subtracted the sum of exponentials is at least 1, so this guard never acts. With a "
        "NaN it depends on the order of its arguments: std::max(NaN, c) is NaN and std::max(c, NaN) is c. On "
        "probabilities a floor of 1e-20 caps the loss at 46.05.",
        "find the row that makes the sum NaN: a +inf or NaN logit, or all of them -inf (everything masked)",
    ),
    _symptom(
        "safe-loss",
        POSSIBLE,
        "safe loss",
        r"safe loss",
        "a loss made “safe” may only be one that no longer shows the NaN.",
        "see what it returns for a batch whose labels are all masked, and whether the update is then skipped",
    ),
    _symptom(
        "finite-is-not-healthy",
        CERTAIN,
        "finite",
        r"loss is finite",
        "finite is not healthy: isfinite passes 1e25.",
        "compare a loss with ln V, or with its own first values",
    ),
    _symptom(
        "false-positive",
        LIKELY,
        "false positive",
        r"false positive",
        "a warning called a false positive was printed for a reason; for the order of scheduler and optimizer it is "
        "that no optimizer step had been done.",
        "count applied optimizer steps at that point",
    ),
    _symptom(
        "unequal-pipelines",
        LIKELY,
        ".conj()",
        r"\.conj\(\)\.transpose\([^)]*\)\s*@\s*\w+",
        "A^H A is the complex conjugate of the mean of a a^H: beside a pipeline that uses the other order, training "
        "and evaluation see transposed matrices.",
        "feed one sample through both and compare every intermediate matrix",
    ),
    _symptom(
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
