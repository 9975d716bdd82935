"""What numbers that are not finite say: each rule looks at the records of a log and gives findings, or none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from loopos.monitor.verdict import FEWEST

from .findings import CERTAIN, LIKELY, POSSIBLE, UNKNOWN, Finding
from .logs import Log
from .series import CLOCKS, bad, is_filtered, is_norm, quoted, series, with_loss
from .symptoms import COUNT_LABELS, FIRST_BAD


def nonfinite_loss(log: Log) -> Iterator[Finding]:
    records = series(log)
    hits = [record for record in records if bad(record.values["loss"])]
    if not hits:
        return
    first, evidence = hits[0], quoted(hits)
    before = [r for r in records if r.order < first.order and math.isfinite(r.values["loss"])]
    if len(records) == 1 and set(first.values) == {"loss"} and _MESSAGE.search(first.text):
        return  # it tells nothing of what came before
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
    hits = [r for r in log.records if bad(r.get("grad_norm")) and not is_filtered(r) and not bad(r.get("loss"))]
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
    known = {"loss", "eval_loss", "grad_norm"}
    losses = [record.values["loss"] for record in series(log)]
    healthy = len(losses) >= FEWEST and all(map(math.isfinite, losses))
    news = {id(r): [n for n, v in r.values.items() if n not in known and _is_news(n, v, r.text)] for r in log.records}
    other = [record for record in log.records if news[id(record)]]
    if healthy:  # what no entry of the curve holds is a setting, or a score that is 0/0
        other = [r for r in other if CLOCKS & set(r.values) or any(map(is_norm, news[id(r)]))]
    if other and not hits:
        names = sorted({name for record in other for name in news[id(record)]})[:6]
        yield Finding(
            "unknown",
            UNKNOWN,
            f"not finite: {', '.join(names)}. The text does not say where it was born.",
            quoted(other),
            FIRST_BAD,
        )


_MESSAGE = re.compile(
    r"\bloss (?:is|was|became|becomes|has become)\b|\bstopping\b|\bterminat|Error\b|Exception\b", re.I
)
_LIMITS = re.compile(
    r"(?:^|[_./ -])(?:best|min(?:imum)?|max(?:imum)?|low(?:est)?|high(?:est)?|smallest|largest|prev(?:ious)?|limit"
    r"|bound|threshold|patience|timeout|clip|cap|budget|tol(?:erance)?|init(?:ial)?|delta)(?:$|[_./ -])",
    re.I,
)


_SO_FAR = re.compile(r"\b(?:best|lowest|minimum|improved from|decreased)\b", re.I)


def _is_news(name: str, value: float, line: str) -> bool:
    """Not finite, and not an inf that stands for "no limit" or "none so far"."""
    return bad(value) and not (math.isinf(value) and (_LIMITS.search(name) or _SO_FAR.search(line)))


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
    counted = [record for record in log.records if record.values.get("nan_iterations", 0) > 0]
    if counted:
        yield Finding(
            "not-finite-reported",
            CERTAIN,
            f"the program counted {sum(r.values['nan_iterations'] for r in counted):g} iterations whose loss was NaN; "
            "it does not say where that was born, nor that the steps were skipped.",
            quoted(counted),
            FIRST_BAD,
        )


def unequal_runs(log: Log) -> Iterator[Finding]:
    """Healthy entries of another run, at another rate or phase, do not show that a fault is gone."""
    records = [r for r in with_loss(log) if CLOCKS & set(r.values)]
    spoilt = [r for r in records if is_filtered(r) or bad(r.values["loss"]) or bad(r.get("grad_norm"))]
    after = [r for r in records if spoilt and r.order > spoilt[-1].order]
    if not after:
        return
    differences = []
    rates = [
        [r.values["learning_rate"] for r in part if r.values.get("learning_rate", 0) > 0] for part in (spoilt, after)
    ]
    if all(rates) and max(rates[1]) < min(rates[0]):
        differences.append(f"learning rates of at most {max(rates[1]):g} against at least {min(rates[0]):g}")
    for clock in ("epoch", "step"):
        times = [[r.values[clock] for r in part if clock in r.values] for part in (spoilt, after)]
        if all(times) and max(times[1]) < min(times[0]):
            differences.append(f"{clock} up to {max(times[1]):g} against from {min(times[0]):g}")
    if differences:
        yield Finding(
            "unequal-comparison",
            CERTAIN,
            f"the healthy entries ({len(after)}) are not comparable with the bad ones: {'; '.join(differences)}. They "
            "do not show that the cause is gone.",
            quoted([spoilt[0], after[-1]]),
            "the same rate, data order and step in both runs",
        )
