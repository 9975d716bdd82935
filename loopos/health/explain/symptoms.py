"""Sentences that programs print when something is wrong, and what each of them means.

A rule looks at one line at a time. Its ``word`` must be in the line (lower case) before its pattern is tried. Where the
sentence is known from: PyTorch, transformers, Lightning, DeepSpeed, apex, NumPy, JAX, TensorFlow, Keras, LoopOS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .findings import CERTAIN, LIKELY, POSSIBLE


@dataclass(frozen=True)
class Symptom:
    """says may name groups of the pattern in braces."""

    cause: str
    confidence: str
    word: str
    pattern: re.Pattern[str]
    says: str
    check: str


def _symptom(cause: str, confidence: str, word: str, pattern: str, says: str, check: str) -> Symptom:
    return Symptom(cause, confidence, word, re.compile(pattern, re.I), says, check)


COUNT_LABELS = (
    "count the labels that are not -100 (or the ignore_index), per row of the first batch: 0 is the proof. Usual "
    "reasons: a prompt as long as the maximum length, a response template that is not found, padding taken for the "
    "response"
)
FIRST_BAD = "name the first tensor that is not finite: run that one step with every operation's output looked at"

SYMPTOMS: tuple[Symptom, ...] = (
    _symptom(
        "step-skipped",
        LIKELY,
        "optimizer.step",
        r"lr_scheduler\.step\(\)`? before `?optimizer\.step\(\)",
        "the warning is usually true: when it is printed, no optimizer.step() has been done. Either the calls are in "
        "the wrong order, or the order is right and the step was skipped, as a gradient scaler or a finiteness check "
        "does when gradients are not finite: then nothing has been learned so far.",
        "count the steps that were attempted and those that were applied; compare one weight before and after a step",
    ),
    _symptom(
        "step-marked-bad",
        CERTAIN,
        "ok=false",
        r"\bok=False\b",
        "the program itself marked this step as not sound, so it was presumably not applied.",
        "count the steps that were attempted and those that were applied",
    ),
    _symptom(
        "invalid-operation",
        LIKELY,
        "-nan",
        r"(?<![\w.>-])-nan(?:\(\w*\))?(?![\w-])",
        "on x86 the sign tells: a NaN that the processor makes from 0/0, inf - inf, 0*inf or the root of a negative "
        "number is printed -nan by C and C++, a NaN literal as nan. So this one was most likely computed, in the "
        "forward pass that gave this loss; weights that are never updated cannot create it. (On ARM, and from Python, "
        "the sign tells nothing.)",
        "trap the operation (feenableexcept(FE_INVALID) in C, numpy.errstate(invalid='raise')); look at the first "
        "forward: range of the logits, a row with everything masked, log of a probability that is 0",
    ),
    _symptom(
        "backward-nan",
        CERTAIN,
        "backward",
        r"Function '?(?P<op>\w+?)(?:Backward\d*)'? returned nan values in its (?P<n>\d+)\w\w output",
        "the gradient of {op} (its input {n}) is NaN. The forward value may have been finite: the slope of a root or "
        "a norm at 0, of log at 0 and of a masked branch under where() is not.",
        "print the inputs of the forward {op} at the line that anomaly mode shows, and the gradient that came into "
        "it: if that was already NaN or inf, the birth is further down",
    ),
    _symptom(
        "label-out-of-range",
        CERTAIN,
        "out of",
        r"Target (?P<t>-?\d+) is out of bounds|index out of range in self|(?:label|target|id)s?\b[^.]{0,60}out of "
        r"(?:range|bounds)"
        r"|Assertion `t >= 0 && t < n_classes`",
        "a label or a token id is outside 0..V-1.",
        "compare the minimum and maximum of ids and labels with the rows of the embedding (vocab_size), special "
        "tokens included",
    ),
    _symptom(
        "label-out-of-range",
        LIKELY,
        "device-side assert",
        r"device-side assert",
        "on a GPU this is most often an id or a label outside its range; the line shown may be far from the place.",
        "run the same batch on the CPU, where the message has the value; or set CUDA_LAUNCH_BLOCKING=1",
    ),
    _symptom(
        "labels-masked",
        CERTAIN,
        "-100",
        r"(?:all|every|each)\b[^.]{0,60}\b(?:labels?|targets?)\b[^.]{0,60}-100",
        "the program says that every label is masked: there is nothing to learn from, and a mean over no label is 0/0.",
        COUNT_LABELS,
    ),
    _symptom(
        "exp-overflow",
        CERTAIN,
        "exp",
        r"overflow encountered in (?:exp|expm1|cosh|sinh|power|logaddexp)",
        "exp of more than 88.72 (float32; 709.78 in float64) is infinite. What follows, inf/inf or inf - inf, is NaN.",
        "subtract the maximum before exp, or use a fused log-softmax; then look why the argument is that large",
    ),
    _symptom(
        "product-overflow",
        CERTAIN,
        "overflow",
        r"overflow encountered in (?!exp|cosh|sinh|power|logaddexp)(?P<op>\w+)",
        "a result of {op} is beyond the largest number of its type (3.4e38 in float32, 65504 in float16).",
        "print the magnitudes of both operands one step before",
    ),
    _symptom(
        "log-zero",
        CERTAIN,
        "divide by zero",
        r"divide by zero encountered in log",
        "the log of an exact 0 is -inf: a probability has underflowed, or a count is 0.",
        "compute log-softmax directly from logits instead of log(softmax)",
    ),
    _symptom(
        "invalid-operation",
        CERTAIN,
        "invalid value",
        r"invalid value encountered in (?P<op>\w+)",
        "a NaN was made in {op}: 0/0, inf - inf, 0*inf, or a root or log of a negative number.",
        "numpy.errstate(invalid='raise') stops at the line; print its operands",
    ),
    _symptom(
        "invalid-operation",
        CERTAIN,
        "invalid value",
        r"invalid value \(nan\) encountered in (?P<op>[\w()./<>-]+)",
        "a NaN was made in {op}.",
        "run without jit, so that the first primitive with a NaN output is named; print its operands",
    ),
    _symptom(
        "half-precision",
        LIKELY,
        "scale",
        r"(?:loss )?scale (?:is )?already at minimum|minimum loss scale",
        "the loss scale fell until it could fall no more: gradients have been inf or NaN at every step for a while. "
        "The scale is the symptom; raising it or its minimum hides it.",
        "run one batch in float32: if it is not finite there either, half precision is not the cause",
    ),
    _symptom(
        "half-precision",
        POSSIBLE,
        "overflow",
        r"gradient overflow|OVERFLOW!|overflow[^.]{0,40}skipping step|skipping step[^.]{0,60}(?:loss scale|scaler)",
        "a step was skipped because float16 gradients overflowed. A few of these at the start are normal: the scale "
        "is being found. All the time they mean gradients that are not finite in any precision.",
        "count skipped against applied steps; run one batch in float32",
    ),
    _symptom(
        "half-precision",
        CERTAIN,
        "unscale fp16",
        r"Attempting to unscale FP16 gradients",
        "the trainable weights are float16; a gradient scaler wants them in float32.",
        "keep what is trained (adapters too) in float32 and let autocast lower the arithmetic",
    ),
    _symptom(
        "no-gradient",
        CERTAIN,
        "grad",
        r"does not require grad and does not have a grad_fn|None of the inputs have requires_grad=True",
        "the loss is not connected to any trainable weight: nothing can be learned.",
        "list the parameters with requires_grad; look for detach(), no_grad(), .data or .item() between them and the "
        "loss; with checkpointing of a frozen model, make the inputs require a gradient",
    ),
    _symptom(
        "no-update",
        LIKELY,
        "learning",
        r"\(void\)\s?(?:learning_rate|lr)\b|learning rate is never used|no weight updates|no backpropagation"
        r"|never updates? (?:the )?weights",
        "as the text says, no weight is ever updated. This explains a loss that does not fall. It cannot create a "
        "NaN: one that is there was made in the forward pass with the first weights.",
        "compare every weight before and after a step; double the rate and see whether the second loss changes; and, "
        "for the NaN, look at the very first forward",
    ),
    _symptom(
        "initialisation",
        LIKELY,
        "logit",
        r"logits[^.]{0,40}(?:-?\d{3,}\s?(?:to|\.\.|…)\s?\+?\d{3,})",
        "logits of hundreds at the start mean weights that are initialised too large; the first loss should be near "
        "ln V plus half the variance of the logits.",
        "print the standard deviation of the first logits; initialise with about 0.02",
    ),
    _symptom(
        "memory",
        CERTAIN,
        "memory",
        r"out of memory|can't allocate memory|cannot allocate memory|MemoryError|bad_alloc|Unable to allocate",
        "memory ran out; this is no numerical fault.",
        "a smaller batch with more accumulation has the same gradient",
    ),
    _symptom(
        "norm-overflow",
        LIKELY,
        "non-finite",
        r"total norm of order [\d.]+ for gradients[^.]{0,40}is non-finite",
        "the gradient norm is not finite. Either a gradient is, or finite ones of 1e19 and more overflowed when "
        "squared.",
        "take the norm in float64: if it is finite, the squares overflowed; else name the first parameter whose "
        "gradient is not",
    ),
    _symptom(
        "not-finite-reported",
        CERTAIN,
        "nan",
        r"Detected nan and/or inf values in|Invalid loss, terminating training|loss is (?:nan or inf|not finite"
        r"|non-?finite)"
        r"|Tensor had (?:NaN|Inf) values|input contains (?:nan|inf)|Loss is nan, stopping",
        "the program stopped at a number that is not finite; it does not say where it was born.",
        FIRST_BAD,
    ),
    _symptom(
        "not-finite-reported",
        LIKELY,
        "nan",
        r"\bloss\b[^.\n]{0,30}\b(?:becomes?|became|goes to|went|turn(?:s|ed)|is|was|=|:)\s{0,2}(?:to |into )?`?nan\b"
        r"|\b(?:nan|inf(?:inite)?) (?:loss(?:es)?|gradients?)\b(?![^\n]{0,24}[:=]\s*\W*0\b)",
        "the text speaks of numbers that are not finite.",
        "get the log lines of the last healthy and the first bad step: loss, gradient norm and rate",
    ),
    _symptom(
        "last-batch",
        POSSIBLE,
        "epoch",
        r"\bnan\b[^.\n]{0,60}\b(?:at|near) (?:the )?end of (?:the )?(?:first |each |every |an? )?epoch",
        "a NaN at the end of an epoch points to its last batch, which is smaller than the others or empty.",
        "drop the last batch: if the NaN is gone, look at its size and at the number of its labels",
    ),
    _symptom(
        "data-not-finite",
        POSSIBLE,
        "zerodivision",
        r"ZeroDivisionError",
        "a count that was divided by is 0; in training code most often the number of batches, of tokens or of labels "
        "that are not masked.",
        COUNT_LABELS,
    ),
)
