"""How far the updates of a run can have moved its weights: the record that sets causes apart by a run's own past.

Weights that are far too large end in one overflow or another. Whether the learning rate made them so, the weight decay,
or neither (they were loaded so, or written between two updates) cannot be seen in the weights themselves. So a run
keeps a few numbers: how large its matrices were at its start, and a bound of what its updates can do to an element,

    |w| <= factor * |w at the start| + amplified,

where ``factor`` is the product of |1 - rate * decay| over the updates, ``amplified`` the sum of their steps, each taken
through the decays after it, and ``moved`` that sum without the decay.

A rate is not to blame for what a gradient did: of sgd, whose steps are as long as its gradients, the first gradient
that is out of line is kept too. One that came before the weights had moved came from them or from the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

BY_A_GRADIENT = "by a gradient whose norm was"
HUGE_WEIGHT = 1e3  # no initialisation or trained model has a matrix half of whose weights are larger
SAMPLED = 4096  # elements of a matrix, evenly spaced, that stand for the whole
# A step of these is the rate times a direction whose elements are about 1 at most; ten times that is beyond doubt.
_SLACK = 10.0
# Rounding of every update is a little of the bound, 1e6 of them in float32 leave a twentieth.
_ROUNDING = 1.1
_STEEP = 1e3  # a gradient norm so many times the largest before, or 1, is out of line
_L2 = ("adam",)  # rules whose decay goes into the gradient and is divided by its own size again


_NUMBERS = ("factor", "moved", "amplified", "rate", "largest_factor", "decay_rate", "norm", "steep")


class Explosion(NamedTuple):
    """A matrix half of whose weights are larger than ``median``. kind: of loopos.errors.CAUSES, None where the record
    bears out neither; words: what the record says of it."""

    tensor: str
    median: float
    kind: str | None
    words: str


class Growth:
    """The record of one run, over every resume. start: the median magnitude of each matrix when it began; rate: the
    largest that an update was done with; updates: how many changed the weights; decay_rate: the rate of the update
    whose decay multiplied the weights most; norm: the largest of the gradients that sgd was given until one was steep:
    out of line, and of the weights as they were."""

    def __init__(self, start: Mapping[str, float]):
        self.start = dict(start)
        self.factor, self.moved, self.amplified, self.rate, self.updates = 1.0, 0.0, 0.0, 0.0, 0
        self.largest_factor, self.decay_rate, self.norm, self.steep = 1.0, 0.0, 1.0, 0.0

    @classmethod
    def of(cls, weights: Mapping[str, np.ndarray], saved: Any = None) -> Growth:
        """Of a run that begins with ``weights``, or goes on from what ``state`` gave."""
        try:
            growth = cls({str(name): float.fromhex(value) for name, value in saved["start"].items()})
            for name in _NUMBERS:
                setattr(growth, name, float.fromhex(saved[name]))
            growth.updates = int(saved["updates"])
        except (TypeError, ValueError, LookupError, AttributeError):  # of a version that kept none
            return cls(medians(weights))
        return growth

    def state(self) -> dict[str, Any]:
        """For a checkpoint or a bundle: JSON, every bit of a number."""
        numbers = {name: getattr(self, name).hex() for name in _NUMBERS}
        return {"start": {n: value.hex() for n, value in self.start.items()}, "updates": self.updates, **numbers}

    def count(self, optimizer: str, rate: float, decay: float, norm: float) -> None:
        """An update that was applied: its rule, learning rate and weight decay, and the norm of the gradient that the
        optimizer was given (after clipping)."""
        step = _SLACK * rate
        if optimizer == "sgd":
            step = rate * norm
            if not self.steep and norm > _STEEP * self.norm and (rate <= 1 or (self.moved < 1 and norm > rate)):
                self.steep = norm
            elif not self.steep:
                self.norm = max(self.norm, norm)
        factor = 1.0 if optimizer in _L2 else abs(1.0 - rate * decay)
        self.factor *= factor
        if factor > self.largest_factor:
            self.largest_factor, self.decay_rate = factor, rate
        self.amplified = factor * self.amplified + step
        self.moved += step
        self.rate, self.updates = max(self.rate, rate), self.updates + 1

    def explosion(self, weights: Mapping[str, np.ndarray]) -> Explosion | None:
        """What is to be said of weights that are far too large; None where there are none."""
        huge = {name: median for name, median in medians(weights).items() if median > HUGE_WEIGHT}
        explained = [self._explain(name, median) for name, median in huge.items()]
        return next((each for each in explained if each.kind), explained[0] if explained else None)

    def _explain(self, name: str, median: float) -> Explosion:
        half = f"half of {name} is larger than {median:.3g} in magnitude"
        start = self.start.get(name)
        if start is None:
            return Explosion(name, median, None, half)
        if not median > max(2 * start, HUGE_WEIGHT):
            return Explosion(name, median, None, f"{half}, and was so when the run began")
        grew = f"{half}; when the run began it was {start:.3g}, and {self.updates} updates made it grow"
        rates = f"at rates of up to {self.rate:g}"
        by_both = _ROUNDING * (self.factor * start + self.amplified)
        if self.factor * start <= HUGE_WEIGHT and median <= start + self.moved:  # the decay alone would not do it
            if self.steep:
                steep = f"{BY_A_GRADIENT} {self.steep:.3g}, after {self.norm:.3g} at most"
                return Explosion(name, median, None, f"{grew} {steep}, {rates}")
            return Explosion(name, median, "learning rate too large", f"{grew}, {rates}")
        if self.factor > 1 and (by_both >= median or math.isnan(by_both)):
            kind = "learning rate too large" if self.decay_rate > 1 else "weight decay too large"
            decays = f"1 - rate * weight_decay multiplied the weights, in all by {self.factor:.3g} in magnitude"
            return Explosion(name, median, kind, f"{grew}: {decays}, {rates}")
        reach = f"its updates, {rates}, cannot have done that: somebody wrote into the weights"
        return Explosion(name, median, None, f"{half}; when the run began it was {start:.3g}, and {reach}")


def medians(weights: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The median of the finite magnitudes of every matrix, of some of its elements where it is large."""
    found = {}
    for name, array in weights.items():
        if array.ndim < 2 or array.size == 0:
            continue
        sample = np.abs(array.reshape(-1)[:: max(1, array.size // SAMPLED)].astype(np.float64))
        finite = sample[np.isfinite(sample)]
        found[name] = 2 * float(np.median(finite / 2)) if finite.size else 0.0  # of two of 1.7e308 too
    return found
