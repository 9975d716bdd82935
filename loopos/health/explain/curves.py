"""What the curves of a log say where the numbers are finite: absurd, grown, constant, without gradient, learning."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator

from loopos.monitor import heldout
from loopos.monitor.verdict import DIVERGING, FEWEST, FLAT, INSUFFICIENT, LEARNING, verdict

from .evaluations import compared
from .findings import CERTAIN, LIKELY, POSSIBLE, UNKNOWN, Finding
from .logs import Log, Record
from .series import is_norm, latest, quoted, with_loss
from .symptoms import COUNT_LABELS

ABSURD = 1e6  # a loss beyond this is no cross-entropy: ln V is 14 for a vocabulary of a million
JUMP = 1e3
FEWEST_AT_ZERO = 3  # entries with a learning rate of 0
SQUARE_LIMIT = math.sqrt(3.4028235e38)  # beyond it a float32 square is infinite
FLOORS = {  # -ln of the floors that code puts under a probability
    1e-20: "1e-20",
    1e-15: "1e-15",
    1e-12: "1e-12",
    1e-10: "1e-10",
    1e-9: "1e-9",
    1e-8: "1e-8",
    1e-7: "1e-7",
    1.1920929e-07: "float32's epsilon",
    1.17549435e-38: "the smallest normal float32",
    1.401298e-45: "the smallest float32",
}


def implausible_loss(log: Log) -> Iterator[Finding]:
    hits = [
        record
        for record in with_loss(log)
        if math.isfinite(record.values["loss"]) and abs(record.values["loss"]) > ABSURD
    ]
    if not hits:
        return
    loss = max(abs(record.values["loss"]) for record in hits)
    square = " Its square overflows float32, so gradients that are NaN or inf follow." if loss > SQUARE_LIMIT else ""
    yield Finding(
        "implausible-loss",
        CERTAIN,
        f"a loss of {loss:.3g} is finite and yet absurd: finite is not healthy. A cross-entropy starts near ln V, 14 "
        f"for a million classes; a squared error of normalised targets near 1.{square}",
        quoted(hits),
        "print the norms of prediction and target and of every intermediate, in order: the fault is where the scale "
        "jumps",
    )
    norms = [(n, v, r) for r in log.records for n, v in r.values.items() if is_norm(n) and v > 0 and math.isfinite(v)]
    match = next(((n, v, r) for n, v, r in norms if v > JUMP and 1e-2 < loss / v / v < 1e2), None)
    if match is not None:
        name, value, record = match
        yield Finding(
            "scale-jump",
            LIKELY,
            f"the loss is about the square of {name} ({loss:.3g} / {value:.3g}² = {loss / value / value:.3g}): the "
            "loss did its work, the scale was lost before it.",
            quoted([record, *hits], 2),
            f"follow {name} back to the operation that makes it so large",
        )


def scale_jump(log: Log) -> Iterator[Finding]:
    """Named norms of one report that are more than 1e3 apart."""
    norms: dict[str, tuple[float, Record]] = {}
    for record in log.records:
        for name, value in record.values.items():
            if is_norm(name) and name != "grad_norm" and value > 0 and math.isfinite(value):
                norms.setdefault(name, (value, record))
    if len(norms) < 2:
        return
    low, high = min(norms, key=lambda n: norms[n][0]), max(norms, key=lambda n: norms[n][0])
    ratio = norms[high][0] / norms[low][0]
    if ratio > JUMP:
        times = f"{ratio:.2g}" if math.isfinite(ratio) else "more than 1e308"
        yield Finding(
            "eps-floor" if norms[high][0] > ABSURD else "scale-jump",
            POSSIBLE,
            f"{high} is {times} times {low}. Numbers of one computation that lie so far apart point to a missing "
            "normalisation or to a division by something near 0, whose floor (an eps) then sets the result.",
            quoted([norms[high][1], norms[low][1]]),
            "print every divisor and how often its floor was used; a trace or norm that is near 0 or negative is the "
            "fault",
        )


def grown_loss(log: Log) -> Iterator[Finding]:
    records = [record for record in latest(log) if math.isfinite(record.values["loss"])]
    if len(records) < 3 or any(abs(record.values["loss"]) > ABSURD for record in records):
        return
    best = min(range(len(records)), key=lambda i: records[i].values["loss"])
    worst = max(range(best, len(records)), key=lambda i: records[i].values["loss"])
    low, high = records[best].values["loss"], records[worst].values["loss"]
    if low > 0 and high > 10 * max(low, 0.5) and high > 2 * records[0].values["loss"]:
        yield Finding(
            "learning-rate-too-large",
            LIKELY,
            f"the loss rose from {low:.4g} to {high:.4g}, far above where it began: it diverged.",
            quoted([records[best], records[worst]]),
            "the same run with a third of the rate or a longer warm-up; and one from just before the rise without "
            "that batch",
        )


def norm_jump(log: Log) -> Iterator[Finding]:
    past: list[float] = []
    run = 0
    for record in log.records:
        if record.run != run:
            past, run = [], record.run
        norm = record.get("grad_norm")
        if norm is None or not math.isfinite(norm) or norm <= 0:
            continue
        if len(past) >= 3 and norm > JUMP * statistics.median(past[-64:]):
            yield Finding(
                "scale-jump",
                LIKELY,
                f"the gradient norm jumped to {norm:.3g} from a median of {statistics.median(past[-64:]):.3g}.",
                quoted([record]),
                "replay that step: without row i, with half the rate, in float64",
            )
            return
        past.append(norm)


def constant_loss(log: Log) -> Iterator[Finding]:
    records = [record for record in latest(log) if math.isfinite(record.values["loss"])]
    values = [record.values["loss"] for record in records]
    if len(values) < FEWEST or max(values) - min(values) > 2e-3 * abs(values[-1]):
        return
    value, evidence = statistics.median_low(values), quoted(records)  # a mean of two could leave the range
    if value == 0:
        yield Finding(
            "labels-masked",
            LIKELY,
            "every loss is exactly 0: nothing was scored, or the answer is in the input.",
            evidence,
            COUNT_LABELS,
        )
        return
    floor = next((text for size, text in FLOORS.items() if abs(value + math.log(size)) < 0.02), None)
    if floor is not None:
        yield Finding(
            "eps-floor",
            LIKELY,
            f"the loss stands at {value:.4g} = -ln of {floor}: a floor under the probability caps it, and there its "
            "gradient is 0.",
            evidence,
            "compute the loss from log-softmax without a floor",
        )
        return
    sizes = {record.get("vocab_size") for record in log.records} - {None}
    known = next((v for v in sizes if v > 1 and abs(value - math.log(v)) < 0.02 * value), None)
    uniform = (
        f", which is ln {known:g}: a uniform guess over the vocabulary"
        if known
        else f"; e^{value:.4g} is {math.exp(value):,.0f}: if that is about the number of classes, it is a uniform guess"
        if value < 30
        else ", more than a uniform guess over any number of classes"
    )
    yield Finding(
        "no-update",
        LIKELY,
        f"the loss stands at {value:.4g}{uniform}. Nothing is learned: the weights do not change, or nothing that "
        "matters reaches them.",
        evidence,
        _COMPARE_WEIGHTS,
    )


_COMPARE_WEIGHTS = (
    "compare every weight before and after a step; list parameters without a gradient; double the rate and see whether "
    "the second loss changes"
)
_ROUNDED = re.compile(r"(?:\blr|learning[ _-]rate)\W{1,6}0?\.0{3,}(?![\de])", re.I)


def zero_rate(log: Log) -> Iterator[Finding]:
    """A learning rate that is printed as 0, in all entries or from one on; one at the end of a schedule is usual."""
    records = [r for r in latest(log) if "learning_rate" in r.values and math.isfinite(r.values["loss"])]
    count = next((i for i, r in enumerate(reversed(records)) if r.values["learning_rate"] != 0), len(records))
    whole, hits = count == len(records), records[len(records) - count :]
    if count < FEWEST_AT_ZERO or (not whole and count < len(records) / 10):
        return
    rounded = any(_ROUNDED.search(record.text) for record in hits)
    if verdict([record.values["loss"] for record in hits]).kind == LEARNING or (rounded and not whole):
        return  # what is printed is not what is used
    values = [record.values["loss"] for record in hits]
    since = "in every entry" if whole else f"from line {hits[0].line} on"
    says = f"the learning rate is 0 {since}: nothing is learned there"
    yield Finding(
        "learning-rate-zero",
        LIKELY if rounded else CERTAIN,
        (f"{says}, if it is not a smaller rate that was rounded" if rounded else says)
        + f". The loss goes from {values[0]:.4g} to {values[-1]:.4g}, between {min(values):.4g} and {max(values):.4g}.",
        quoted(hits),
        "print the rate of the optimizer with all its digits; look at the schedule: its length, its warm-up, and the "
        "rate it was given",
    )


def negative_loss(log: Log) -> Iterator[Finding]:
    hits = [r for r in with_loss(log) if r.values["loss"] < 0 and r.values["loss"] >= -ABSURD]
    if hits:
        yield Finding(
            "negative-loss",
            POSSIBLE,
            "a cross-entropy is never negative. Policy-gradient losses and densities may be; else probabilities were "
            "given as logits or log-probabilities twice.",
            quoted(hits),
            "recompute the loss of one batch by hand",
        )


def trend_of(log: Log) -> Iterator[Finding]:
    """What the series as a whole shows; says so when that is nothing."""
    records = latest(log)
    if not any(math.isfinite(record.values["loss"]) for record in records):
        return
    rates = [record.get("learning_rate") for record in records]
    found = verdict([r.values["loss"] for r in records], rates if None not in rates else None)
    evidence = quoted([records[0], records[-1]] if len(records) > 1 else records)
    if found.kind == INSUFFICIENT:
        yield Finding(
            "insufficient-evidence",
            UNKNOWN,
            f"{found.says}. This shows neither that it learns nor that it does not.",
            evidence,
            "run on until there are at least 20 entries after the warm-up",
        )
    elif found.kind == FLAT:
        yield Finding(
            "flat",
            LIKELY,
            f"{found.says}.",
            evidence,
            "overfit one batch: if that fails too, gradients or updates are broken",
        )
    elif found.kind == DIVERGING and any(math.isfinite(r.values["loss"]) for r in records[-3:]):
        yield Finding("diverging", LIKELY, f"{found.says}.", evidence, "the same run with a third of the rate")
    elif found.kind == LEARNING:
        held = compared(log)
        says = found.says if held.kind == heldout.ABSENT else f"{found.says}; {held.says}"
        check = "the loss on data that are held out" if held.kind == heldout.ABSENT else "a longer run, and its samples"
        yield Finding("learning", LIKELY, f"{says}.", evidence, check)
