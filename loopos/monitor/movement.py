"""How far the weights of a run move in a step: each matrix, and all of them together.

A rate that is too high moves weights far in every step, long before the loss shows it. In a warm-up the first steps
show where it leads: what an update moves grows with the rate. How far is too far depends on where the loss goes: while
it falls nothing is, while it stands MOVED is, and once it climbs back CLIMBING.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from loopos import _core

from .course import CLIMBS, FALLS, STANDS
from .monitor import Alarm
from .window import Window

SAMPLED = 1024
FEW = 256  # of a matrix, where all together are asked for
MOST = 0.4  # of the tensors may move less: those that begin at 0, as half of LoRA's, are young for long
PACE = 10  # steps between two looks at how far all weights move, while that is calm
LOOKS = 12
MOVED = 0.085  # of all weights, the median of LOOKS looks: most runs whose loss stands at such a rate diverge later
CLIMBING = 0.02  # the same of those whose loss climbs back
YOUNG = 2.0  # in step t even weights that only grow move by 1 / t of what they are: up to so many times that is no news
RISE = 1 / 3  # while the rate rises, less is too far: what is measured counts (highest rate / rate)^RISE times
REWRITTEN = 1.0  # of all weights in one step; or in two looks in a row, at the highest rate that is to come
PATIENCE = 2  # losses after weights that were rewritten
BACK = 0.5  # of a bound: what is below it is calm
_MOST = {FALLS: math.inf, STANDS: 1.0, CLIMBS: CLIMBING / MOVED}  # times MOVED
_FAR, _REWRITTEN = "too far", "weights rewritten"


class UpdateRatios:
    """rms of an update over rms of its weights, for every tensor of two or more dimensions. moved: how far the weights
    moved in the latest ``measure``: the same of all tensors together, or what three of five tensors exceed where that
    is more, for one tensor may be much larger than the others; None where there is none, or all are 0.

    Of a large matrix some elements stand for the whole, at an even distance that takes in all columns in turn; they are
    copied before the update, so that what is measured is how far the weights did move."""

    def __init__(self, parameters: Mapping[str, np.ndarray], sampled: int = SAMPLED):
        """sampled: elements of a matrix, to twice as many, that are looked at; of one with fewer, all."""
        matrices = {name: view for name, view in parameters.items() if view.ndim >= 2 and view.size}
        self._names = list(matrices)
        self._samples = [_sample(view, sampled) for view in matrices.values()]
        sizes = [sample.size for sample in self._samples]
        self._stand_for = [view.size / size for view, size in zip(matrices.values(), sizes, strict=True)]
        self.moved: float | None = None
        starts = np.cumsum(sizes[:-1], dtype=int)
        self._before, self._spare = np.empty(sum(sizes)), np.empty(sum(sizes))
        self._named, self._spare_named = (
            dict(zip(self._names, np.split(buffer, starts), strict=False))  # of no matrix there is one piece
            for buffer in (self._before, self._spare)
        )

    def remember(self) -> None:
        """The weights as they are before the update."""
        self._before, self._spare = self._spare, self._before
        self._named, self._spare_named = self._spare_named, self._named
        _core.copy_samples(self._samples, self._before)

    def remembered(self) -> dict[str, np.ndarray]:
        """The samples that were copied, by name; valid until ``remember`` has been called twice."""
        return self._named

    def measure(self) -> dict[str, float]:
        """Since ``remember``, by name. A matrix of zeros has no ratio."""
        ratios, self.moved = _core.moved_samples(self._samples, self._before, self._stand_for)
        found = {name: ratio for name, ratio in zip(self._names, ratios, strict=True) if ratio is not None}
        ordered = sorted(ratio for ratio in found.values() if math.isfinite(ratio))
        if self.moved is not None and ordered:
            self.moved = max(self.moved, ordered[int(MOST * (len(ordered) - 1))])
        return found


class Movement:
    """Looks at how far all weights move, and tells what is implausible: in step 1, in every PACE-th, and in each of the
    LOOKS steps after one that moved them far. ``before`` and ``after`` enclose each update."""

    def __init__(self, parameters: Mapping[str, np.ndarray], saved: Any = None):
        """saved: ``state`` out of a checkpoint; what is none is passed over."""
        self._ratios = UpdateRatios(parameters, FEW)
        self._looks = self._own = False
        known = saved if isinstance(saved, dict) else {}
        values, until = known.get("values", []), known.get("until", 0)
        plain = isinstance(values, list) and all(type(each) is float and math.isfinite(each) for each in values)
        self._past = Window(LOOKS, values if plain else [])  # as multiples of what is usual
        self._until = until if type(until) is int else 0
        self._leads = known.get("leads") is True  # the latest look led to weights that are rewritten
        held = known.get("held")  # of weights that were rewritten: how far they moved, and the losses since
        plain = isinstance(held, list) and len(held) > 1 and all(type(each) is float for each in held)
        self._held: list[float] | None = list(held) if plain else None
        self._raised = {each for each in (_FAR, _REWRITTEN) if each in known.get("raised", ())}

    def look_at(self, parameters: Mapping[str, np.ndarray]) -> None:
        """From now on at these."""
        self._ratios = UpdateRatios(parameters, FEW)

    def state(self) -> dict[str, Any]:
        """Plain numbers and lists, for a checkpoint."""
        held = None if self._held is None else list(self._held)
        raised = sorted(self._raised)
        values = list(self._past.values)
        return {"values": values, "until": self._until, "leads": self._leads, "held": held, "raised": raised}

    def looks(self, step: int) -> bool:
        """Whether it will look at this step."""
        return step == 1 or step % PACE == 0 or step <= self._until

    def before(self, step: int, measured: bool) -> None:
        """measured: somebody measures the update ratios of this step, and tells ``after`` what all move."""
        self._looks = self.looks(step)
        self._own = self._looks and not measured
        if self._own:
            self._ratios.remember()

    def after(
        self,
        step: int,
        moved: float | None,
        ahead: float,
        loss: float = math.nan,
        course: Callable[[], str] = lambda: STANDS,
    ) -> list[Alarm]:
        """``step`` was applied. moved: what was measured; ahead: how many times this step's rate the highest is that is
        to come, 1 after a warm-up; loss: before the update, NaN where it is not known; course: where the loss goes, one
        of FALLS, STANDS and CLIMBS of course.py, which is asked where it matters."""
        found = self.held(step, loss)
        if not self._looks:
            return found
        if self._own:
            self._ratios.measure()
            moved = self._ratios.moved
        if moved is None or not math.isfinite(moved):  # that is told where the number was born
            return found
        found += self.judge(step, moved, ahead, loss, course)
        if self._past.values[-1] > BACK or self._leads:
            self._until = step + LOOKS
        return found

    def held(self, step: int, loss: float = math.nan) -> list[Alarm]:
        """Weights that were rewritten are told unless the loss, now known, falls in each of the PATIENCE steps after:
        once it may by chance."""
        held, self._held = self._held, None
        if held is None:
            return []
        moved, *losses = held
        if loss <= losses[-1]:
            self._held = [*held, loss] if len(losses) < PATIENCE else None
            return []
        self._raised.add(_REWRITTEN)
        said = f"a step moves the weights by {moved:.2g} of their size, and the loss does not fall after it"
        return [_alarm(step, moved, _REWRITTEN, said, REWRITTEN)]

    def judge(
        self,
        step: int,
        moved: float,
        ahead: float = 1.0,
        loss: float = math.nan,
        course: Callable[[], str] = lambda: STANDS,
    ) -> list[Alarm]:
        """What is implausible in a look: rms of the update over rms of the weights, of all weights."""
        past, usual = self._past, max(MOVED, YOUNG / max(1, step))
        past.add(moved * ahead**RISE / usual)
        found: list[Alarm] = []
        before, self._leads = self._leads, moved * ahead > REWRITTEN
        sure = ahead == 1 or before or _REWRITTEN in self._raised
        if moved > REWRITTEN and ahead == 1 and _REWRITTEN not in self._raised and not math.isnan(loss):
            self._held = self._held or [moved, loss]
        elif self._leaves(_REWRITTEN, (moved * ahead if sure else moved) / REWRITTEN):
            rate = f"at the highest rate, {ahead:.3g} times that of this step, " if ahead > 1 else ""
            said = f"{rate}a step moves the weights by {moved * ahead:.2g} of their size"
            found.append(_alarm(step, moved, _REWRITTEN, said, REWRITTEN / ahead))
        goes = self._too_far(past.median if len(past) == LOOKS else 0.0, course)
        if goes is not None and _REWRITTEN not in self._raised:
            rises = f" while the rate has yet to rise {ahead:.3g} times" if ahead > 1 else ""
            times = past.median / _MOST[goes]
            said = (
                f"a step moves the weights by {moved:.2g} of their size{rises}, and the loss {goes}; the median of "
                f"{LOOKS} looks is {times:.2g} times that at which most such runs diverge sooner or later"
            )
            found.append(_alarm(step, moved, _FAR, said, usual * _MOST[goes] / ahead**RISE))
        return found

    def _too_far(self, level: float, course: Callable[[], str]) -> str | None:
        """Where the loss goes, when the level, in multiples of MOVED, is just now too far for that; it is back below
        BACK times the least bound."""
        least = _MOST[CLIMBS]
        if _FAR in self._raised:
            if level <= BACK * least:
                self._raised.discard(_FAR)
            return None
        goes = course() if level > least else FALLS
        if level <= _MOST[goes]:
            return None
        self._raised.add(_FAR)
        return goes

    def _leaves(self, band: str, value: float) -> bool:
        """Whether a value leaves its band, 1, just now: it is back in it below BACK."""
        out = value > (BACK if band in self._raised else 1.0)
        new = out and band not in self._raised
        (self._raised.add if out else self._raised.discard)(band)
        return new


def _alarm(step: int, moved: float, what: str, said: str, most: float) -> Alarm:
    text = f"{what}: {said}; 1e-3 is usual: lower the learning rate"
    return Alarm(step, "moved", moved, f"at most {most:.2g}, most often near 1e-3", f"moved = {moved:.6g} ({text})")


def _sample(view: np.ndarray, count: int) -> np.ndarray:
    """A view of less than 2 count elements of a contiguous array."""
    step, columns = max(1, view.size // count), view.shape[-1]
    while math.gcd(step, columns) > 1:  # with a common divisor the same columns would come again and again
        step += 1
    return view.reshape(-1)[::step]
