"""What the losses on held-out data say beside those of the training: only they tell what was learned from what was
learned by heart.

An evaluation scores the same data each time, so its loss has no noise of batches: a rise since its best value that is
large beside the wobble of the series is one. Of few evaluations only a large rise counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ABSENT, HOLDS, RISES, NOT_FINITE, ZERO = "absent", "holds", "rises", "not finite", "zero"
WHY_NOT_FINITE = (
    "labels that are all masked in the held-out data (a mean over none is 0/0), an empty set, or an evaluation in half "
    "precision"
)
WHY_ZERO = "no target was scored, what is to be told is in the input, or a NaN is shown as 0"
_RISE, _RISE_OF_FEW, _FEW = 0.03, 0.05, 6  # shares of the best loss; evaluations
_WOBBLE = 3.0  # times the wobble of the series, and more where few evaluations show it
_FEWEST_GAPPED = 3  # evaluations with gaps between them that show how often there is one
_NEAR = 5  # training losses whose median says where the training was


class Point(NamedTuple):
    """at: its place in the order of the log; label: the same for people; value: the loss, as it was logged."""

    at: int
    label: str
    value: float


@dataclass(frozen=True)
class HeldOutVerdict:
    """kind: ABSENT, HOLDS, RISES, NOT_FINITE or ZERO; says: with the numbers, no full stop; points: those it is about
    (the best and the last, or the bad ones); by_heart: the training loss fell meanwhile; clear: seen more than once."""

    kind: str
    says: str
    points: tuple[Point, ...] = ()
    by_heart: bool = False
    clear: bool = False


def compare(held: Sequence[Point], training: Sequence[tuple[int, float]]) -> HeldOutVerdict:
    """held: the evaluations; training: (place, loss) of the same log, in order."""
    if not held:
        return HeldOutVerdict(ABSENT, "no held-out loss was logged")
    training = [(at, loss) for at, loss in training if math.isfinite(loss)]
    held = _without_gaps(held)
    sound = [point for point in held if math.isfinite(point.value)]
    bad = tuple(point for point in held if not math.isfinite(point.value))
    if bad and (not sound or bad[-1].at > sound[-1].at):
        return _not_finite(held, sound, bad)
    zeros = tuple(point for point in sound if point.value == 0)
    if zeros and len(zeros) == len(sound) and _level(training, sound[-1].at) > 0.01:
        return HeldOutVerdict(ZERO, f"the held-out loss is exactly 0 ({_often(zeros, held)}): {WHY_ZERO}", zeros)
    best = min(range(len(sound)), key=lambda i: (sound[i].value, -i))  # the last of equals
    first, low, last = sound[0], sound[best], sound[-1]
    before, now = _level(training, low.at), _level(training, last.at)
    by_heart = now < before
    rise = _rise([point.value for point in sound], best)
    if rise and (rise == "clear" or by_heart):
        says = f"the held-out loss rises since {low.label}, from {low.value:.4g}, its best, to {last.value:.4g} at "
        says += last.label
        if by_heart:
            says += f", while the training loss fell from {before:.4g} to {now:.4g}: that is learned by heart"
        return HeldOutVerdict(RISES, says, (low, last), by_heart, rise == "clear")
    if len(sound) == 1:
        says = f"the held-out loss is {last.value:.4g} at {last.label}"
    elif low is last:
        says = f"the held-out loss falls, from {first.value:.4g} to {last.value:.4g}"
    else:
        says = f"the held-out loss is {last.value:.4g}, its best {low.value:.4g} at {low.label}"
    says += f"; {len(bad)} of {len(held)} held-out losses are not finite" if bad else ""
    return HeldOutVerdict(HOLDS, says, (low, last))


def _without_gaps(held: Sequence[Point]) -> Sequence[Point]:
    """Without the NaN that a table has where nothing was evaluated: they stand between evaluations, more of them than
    there are of those, and no more in a row at the end than elsewhere. What is truly NaN stays so."""
    runs, finite = [0], 0  # of NaN, between and around what is finite
    for point in held:
        if math.isnan(point.value):
            runs[-1] += 1
        else:
            runs.append(0)
            finite += math.isfinite(point.value)
    between = runs[1:-1]
    if finite < _FEWEST_GAPPED or not all(between) or sum(runs) <= finite or runs[-1] > max(between):
        return held
    return [point for point in held if not math.isnan(point.value)]


def _not_finite(held: Sequence[Point], sound: Sequence[Point], bad: tuple[Point, ...]) -> HeldOutVerdict:
    if not sound:
        return HeldOutVerdict(
            NOT_FINITE, f"no held-out loss is finite ({_often(bad, held)}): {WHY_NOT_FINITE}", bad, clear=True
        )
    after = tuple(point for point in bad if point.at > sound[-1].at)
    says = f"the held-out loss is not finite since {after[0].label}, and was {sound[-1].value:.4g} at {sound[-1].label}"
    return HeldOutVerdict(NOT_FINITE, f"{says}: a weight that is not finite, or an overflow in the evaluation", after)


def _often(some: Sequence[Point], held: Sequence[Point]) -> str:
    return "of one evaluation" if len(held) == 1 else f"{len(some)} of {len(held)} evaluations"


def _level(training: Sequence[tuple[int, float]], at: int) -> float:
    """The median of the last training losses up to a place; NaN where there is none."""
    near = [loss for place, loss in training if place <= at][-_NEAR:]
    return float(np.median(near)) if near else math.nan


def _rise(values: Sequence[float], best: int) -> str:
    """ "clear", "perhaps" (the last evaluation alone) or ""."""
    tail = values[best + 1 :]
    if not tail:
        return ""
    wobble = 0.0
    if len(values) >= 5:
        bends = np.abs(np.diff(values, 2))
        wobble = 1.4826 * float(np.median(bends)) / math.sqrt(6)
    low, share = abs(values[best]), _RISE if len(values) >= _FEW else _RISE_OF_FEW
    least = max(share * low, _WOBBLE * wobble * (1 + 1 / len(tail)))
    lift = float(np.median(tail[-3:])) - values[best]
    if lift <= least:
        return ""
    if len(tail) == 1:
        return "perhaps" if lift > _RISE_OF_FEW * low else ""
    return "clear" if min(tail[-2:]) - values[best] > lift / 2 else ""
