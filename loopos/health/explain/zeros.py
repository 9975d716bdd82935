"""What losses and gradient norms of exactly 0 say: they are no success, but stand for something else."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .findings import CERTAIN, LIKELY, POSSIBLE, Finding
from .logs import Log
from .series import is_filtered, quoted, series, with_loss
from .series import zeros as substitutes
from .symptoms import COUNT_LABELS

_UNFILTERED = "log the loss of each batch unfiltered (logging_nan_inf_filter=False): it should read nan"
_WEIGHTS = (
    "test every parameter with isfinite; a checkpoint saved since is worthless, go back to one before the first bad "
    "entry"
)


def filtered_loss(log: Log) -> Iterator[Finding]:
    hits = [record for record in with_loss(log) if is_filtered(record)]
    if not hits:
        return
    evidence = quoted(hits)
    before = [record for record in series(log) if record.order < hits[0].order]
    yield Finding(
        "loss-filtered",
        LIKELY,
        "0.0 beside a gradient norm that is not finite is no loss. The Hugging Face Trainer leaves losses that are "
        "NaN out of what it logs (logging_nan_inf_filter=True is its default): a window in which all were NaN reads "
        "0.0, while backward and optimizer step ran all the same.",
        evidence,
        _UNFILTERED,
    )
    yield Finding(
        "labels-masked",
        POSSIBLE if before else LIKELY,
        "the mean over labels that are all masked (-100) is 0/0 = NaN"
        + ("." if before else ", and the very first entry is bad already, before any divergence could build up."),
        evidence,
        COUNT_LABELS,
    )
    if len(hits) > 1:
        yield Finding(
            "weight-not-finite",
            LIKELY,
            "once one step was taken with a gradient that is NaN, every weight it touched is NaN, and all later "
            "entries look alike: they tell nothing new.",
            evidence,
            _WEIGHTS,
        )
    yield Finding(
        "exp-overflow",
        POSSIBLE,
        "an overflow in the forward pass (float16 beyond 65504, exp beyond its range) gives the same entries.",
        evidence,
        "run the first batch in float32: a finite loss there blames the precision",
    )


def lost_to_zero(log: Log) -> Iterator[Finding]:
    """A loss of exactly 0 after others that were far from it."""
    hits = substitutes(log)
    if not hits:
        return
    last = [record for record in series(log) if record.order < hits[0].order and math.isfinite(record.values["loss"])][
        -1
    ]
    after = [record for record in with_loss(log) if record.order > hits[-1].order and record.values["loss"] != 0]
    evidence = quoted([last, *hits])
    was = f"the loss is exactly 0 from line {hits[0].line} on, and was {last.values['loss']:.4g} before"
    if after:
        yield Finding(
            "labels-masked",
            POSSIBLE,
            f"{len(hits)} losses are exactly 0 between others that are not: no target was scored there, or a NaN is "
            "shown as 0.",
            evidence,
            COUNT_LABELS,
        )
        return
    evals = [record for record in log.records if math.isnan(record.values.get("eval_loss", 0.0))]
    proof = evals and evals[0].order >= hits[0].order
    norms = {norm for record in hits if (norm := record.get("grad_norm")) is not None}
    if proof:
        yield Finding(
            "weight-not-finite",
            CERTAIN,
            f"{was}; the held-out loss after that is NaN. So weights are NaN, since about line {hits[0].line}, and the "
            "0 is what NaN is shown as.",
            quoted([last, hits[0], evals[0]]),
            _WEIGHTS,
        )
    moving = norms and all(norm > 0 for norm in norms)
    beside = ""
    if moving:
        least, most = min(norms), max(norms)
        beside = f" A gradient norm of {least:g}" + ("" if least == most else f" to {most:g}")
        beside += (
            " beside it contradicts it, as a loss of 0 has no gradient: this is not the loss that was differentiated."
        )
    yield Finding(
        "loss-filtered",
        CERTAIN if proof else LIKELY,
        f"{was}. A cross-entropy does not fall there at once: it was NaN and is shown as 0 (the Hugging Face Trainer "
        "leaves NaN out of its mean, logging_nan_inf_filter=True is its default; others replace it)"
        + ("." if proof or moving else ", or nothing is scored any more.")
        + beside,
        evidence,
        _UNFILTERED,
    )
    if not proof and not moving:
        yield Finding(
            "labels-masked",
            POSSIBLE,
            f"if the loss is truly 0 from line {hits[0].line} on, no target is scored there, or the answer is in the "
            "input.",
            evidence,
            COUNT_LABELS,
        )


def zero_gradient(log: Log) -> Iterator[Finding]:
    hits = [r for r in log.records if r.get("grad_norm") == 0 and math.isfinite(r.values.get("loss", 0.0))]
    empty = [r for r in log.records if r.get("valid_tokens") == 0]
    if empty:
        yield Finding(
            "labels-masked", CERTAIN, "no target was left to score (valid_tokens 0).", quoted(empty), COUNT_LABELS
        )
        return
    if not hits:
        return
    nothing = [record for record in hits if record.get("loss") == 0]
    yield Finding(
        "labels-masked" if nothing else "zero-gradient",
        LIKELY,
        "loss and gradient norm are both 0: no label was scored, or all rewards of a group are the same."
        if nothing
        else "the gradient norm is 0 as printed beside a loss that is not: no gradient reaches a trainable weight, or "
        "clipping by an infinite norm (1e20 squared overflows float32) turned all of it into 0.",
        quoted(nothing or hits),
        COUNT_LABELS
        if nothing
        else "list the parameters whose gradient is missing or 0; take the norm in float64 before clipping",
    )
