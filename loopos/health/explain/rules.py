"""What numbers that are not finite say: each rule looks at the records of a log and gives findings, or none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from loopos.monitor.verdict import FEWEST

from .findings import CERTAIN, LIKELY, POSSIBLE, UNKNOWN, Finding
from .logs import Log, Record
from .symptoms import COUNT_LABELS, FIRST_BAD

CLOCKS = {"step", "epoch", "learning_rate"}


def quoted(records: Sequence[Record], most: int = 3) -> tuple[str, ...]:
    lines = tuple(f"line {record.line}: {record.text}" for record in records[:most])
    return lines if len(records) <= most else (*lines, f"and {len(records) - most} more")


def with_loss(log: Log) -> list[Record]:
    return [record for record in log.records if "loss" in record.values]


def is_filtered(record: Record) -> bool:
    """A loss of exactly 0 beside a gradient norm that is not finite: no loss, but what was put in its place."""
    return record.get("loss") == 0 and not math.isfinite(record.values.get("grad_norm", 0.0))


def series(log: Log) -> list[Record]:
    """The entries that form the training curve, without substitutes: those that say when, if any does."""
    records = [record for record in with_loss(log) if not is_filtered(record)]
    dated = [record for record in records if CLOCKS & set(record.values)]
    return dated or records


def latest(log: Log) -> list[Record]:
    """Of a log of several runs, the curve of the last one, or of the longest where that has hardly begun."""
    records = series(log)
    runs = [list(run) for _, run in itertools.groupby(records, key=lambda record: record.run)]
    return runs[-1] if runs and len(runs[-1]) >= FEWEST else max(runs, key=len, default=[])


def is_norm(name: str) -> bool:
    return "norm" in name.lower() or name.startswith("||")


def _bad(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


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
        "log the loss of each batch unfiltered (logging_nan_inf_filter=False): it should read nan",
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
            "test every parameter with isfinite; a checkpoint saved since is worthless, go back to one before the "
            "first bad entry",
        )
    yield Finding(
        "exp-overflow",
        POSSIBLE,
        "an overflow in the forward pass (float16 beyond 65504, exp beyond its range) gives the same entries.",
        evidence,
        "run the first batch in float32: a finite loss there blames the precision",
    )


def nonfinite_loss(log: Log) -> Iterator[Finding]:
    records = series(log)
    hits = [record for record in records if _bad(record.values["loss"])]
    if not hits:
        return
    first, evidence = hits[0], quoted(hits)
    before = [r for r in records if r.order < first.order and math.isfinite(r.values["loss"])]
    if not before:
        if first.get("step") in (0, 1):
            says = "the loss of the first step is not finite, before any update: the learning rate is not to blame."
        else:
            says = "the first loss in the log is not finite already."
        yield Finding(
            "labels-masked",
            POSSIBLE,
            f"{says} The mean over labels that are all masked is 0/0.",
            evidence,
            COUNT_LABELS,
        )
        yield Finding(
            "first-forward",
            POSSIBLE,
            f"{says} A forward pass alone can do this: an attention row that is all masked (inf - inf), logits beyond "
            "the range of exp, log of a probability 0, a weight or an input that was never finite.",
            evidence,
            FIRST_BAD,
        )
        return
    last = before[-8:]
    shown = quoted([last[-1], first])
    losses = [record.values["loss"] for record in last]
    norms = [record.values["grad_norm"] for record in last if math.isfinite(record.values.get("grad_norm", math.nan))]
    growth = max([_growth(losses), _growth(norms)])
    if growth > 3:
        yield Finding(
            "learning-rate-too-large",
            LIKELY,
            f"loss or gradient norm grew {growth:.3g}-fold over the last finite entries: it diverged, and the NaN is "
            "only the end. A rate that is too large is the usual reason; a bad batch that started it is the other.",
            quoted([*last[-2:], first]),
            "continue from a checkpoint before the growth, with half the rate: if the same step diverges, it is the "
            "data",
        )
        return
    yield Finding(
        "data",
        POSSIBLE,
        "the entries before the first bad one look healthy. A single batch can do this: an example whose labels are "
        "all masked, an empty sequence, an input that is not finite.",
        shown,
        "run that batch with the weights from before it, then again without row i for each row",
    )
    yield Finding(
        "exp-overflow",
        POSSIBLE,
        "so can a value that grew unseen until it overflowed: logits, attention scores, an activation.",
        shown,
        "log the largest logit and the root mean square of every block's output over the steps before",
    )


def _growth(values: Sequence[float]) -> float:
    """The largest value among the last over the smallest before it."""
    best, low = 1.0, math.inf
    for value in values:
        if value > 0:
            best, low = max(best, value / low), min(low, value)
    return best


def nonfinite_norm(log: Log) -> Iterator[Finding]:
    hits = [r for r in log.records if _bad(r.get("grad_norm")) and not is_filtered(r) and not _bad(r.get("loss"))]
    infinite = [record for record in hits if math.isinf(record.values["grad_norm"])]
    if infinite:
        yield Finding(
            "norm-overflow",
            LIKELY,
            "the gradient norm is infinite. Either a gradient is, or finite ones beyond 1.8e19 overflowed when "
            "squared in float32; clipping by it then turns the others into 0. With a float16 scaler single ones are "
            "normal.",
            quoted(infinite),
            "take the norm in float64; if it is finite the squares overflowed, else name the first parameter whose "
            "gradient is not",
        )
    nans = [record for record in hits if math.isnan(record.values["grad_norm"])]
    if nans:
        finite = any("loss" in record.values for record in nans)
        yield Finding(
            "born-in-backward",
            LIKELY if finite else POSSIBLE,
            ("the loss is finite and " if finite else "")
            + "the gradient norm is NaN: the NaN was born in the backward pass (the slope "
            "of a root, norm or log at 0, a masked branch of where(), 0*inf), or the loss that is shown is not the "
            "true one.",
            quoted(nans),
            "name the first gradient that is not finite, from the loss downwards; log the loss unfiltered",
        )
    other = [
        r
        for r in log.records
        if any(_bad(v) for n, v in r.values.items() if n not in ("loss", "eval_loss", "grad_norm"))
    ]
    if other and not hits:
        names = sorted({n for r in other for n, v in r.values.items() if _bad(v) and n not in ("loss", "eval_loss")})[
            :6
        ]
        yield Finding(
            "unknown",
            UNKNOWN,
            f"not finite: {', '.join(names)}. The text does not say where it was born.",
            quoted(other),
            FIRST_BAD,
        )


def refused(log: Log) -> Iterator[Finding]:
    counted = [record for record in log.records if "nonfinite" in record.values]
    before = [0.0, *(record.values["nonfinite"] for record in counted)]
    hits = [record for record, count in zip(counted, before, strict=False) if record.values["nonfinite"] > count]
    if hits:
        yield Finding(
            "step-skipped",
            CERTAIN,
            f"{max(r.values['nonfinite'] for r in hits):g} updates were refused or skipped for numbers that are not "
            "finite.",
            quoted(hits),
            "the first refused step: replay it and name the tensor",
        )
    skipped = [record for record in log.records if record.values.get("skipped_iterations", 0) > 0]
    start = log.records[: max(len(log.records) // 10, 1)]  # where a scaler looks for its scale: skips are normal there
    if skipped and skipped[-1].order > start[-1].order:
        yield Finding(
            "step-skipped",
            CERTAIN,
            f"{sum(r.values['skipped_iterations'] for r in skipped):g} iterations were skipped, as a loss scaler does "
            "when gradients overflow.",
            quoted(skipped),
            "count skipped against applied steps; run one batch in float32",
        )
    bad = [record for record in log.records if record.values.get("nan_iterations", 0) > 0]
    if bad:
        yield Finding(
            "not-finite-reported",
            CERTAIN,
            f"the program counted {sum(r.values['nan_iterations'] for r in bad):g} iterations whose loss was NaN; "
            "it does not say where that was born, nor that the steps were skipped.",
            quoted(bad),
            FIRST_BAD,
        )


def unequal_runs(log: Log) -> Iterator[Finding]:
    """Healthy entries of another run, at another rate or phase, do not show that a fault is gone."""
    records = [r for r in with_loss(log) if CLOCKS & set(r.values)]
    bad = [r for r in records if is_filtered(r) or _bad(r.values["loss"]) or _bad(r.get("grad_norm"))]
    after = [r for r in records if bad and r.order > bad[-1].order]
    if not after:
        return
    differences = []
    rates = [[r.values["learning_rate"] for r in part if r.values.get("learning_rate", 0) > 0] for part in (bad, after)]
    if all(rates) and max(rates[1]) < min(rates[0]):
        differences.append(f"learning rates of at most {max(rates[1]):g} against at least {min(rates[0]):g}")
    for clock in ("epoch", "step"):
        times = [[r.values[clock] for r in part if clock in r.values] for part in (bad, after)]
        if all(times) and max(times[1]) < min(times[0]):
            differences.append(f"{clock} up to {max(times[1]):g} against from {min(times[0]):g}")
    if differences:
        yield Finding(
            "unequal-comparison",
            CERTAIN,
            f"the healthy entries ({len(after)}) are not comparable with the bad ones: {'; '.join(differences)}. They "
            "do not show that the cause is gone.",
            quoted([bad[0], after[-1]]),
            "the same rate, data order and step in both runs",
        )
