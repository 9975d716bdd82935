"""How an update came to write a number that is not finite: the arithmetic of a rule, recomputed in long double.

In the order of ``cpp/optim/rules``: the decay, which multiplies the weight or is a part of the gradient, the direction,
the rate, the sum. The first that leaves the range is reported, and the larger of its factors is to blame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .arithmetic import Evidence, short

RATE, DECAY = "learning rate too large", "weight decay too large"
_L2 = ("sgd", "adam")  # whose decay is a part of the gradient


def update(found: Mapping[str, Any], operands: Mapping[str, float]) -> Evidence:
    """Of what an optimizer's rule makes a weight or a moment."""
    with np.errstate(all="ignore"):  # operands may be infinite
        return _Update(found, operands).evidence()


class _Update:
    def __init__(self, found: Mapping[str, Any], operands: Mapping[str, float]):
        info = np.finfo(found.get("dtype", "float64"))
        # Rounding to the dtype may carry a little less than its largest number to infinity.
        self.limit, self.most = float(info.max), np.longdouble(info.max) * (1 - 8 * np.longdouble(info.eps))
        self.wide = {name: np.longdouble(value) for name, value in operands.items()}
        self.shown, self.result = dict(operands), found["result"]
        self.weight, self.rate = self.wide["weight"], self.wide["learning_rate"]
        self.decay = self.wide.get("weight_decay", np.longdouble(0))
        self.gradient = self.wide["gradient"] * self.wide["clip_factor"]
        self.decoupled = found.get("rule", found.get("op")) not in _L2
        self.pulled = np.longdouble(0) if self.decoupled else self.decay * self.weight  # a part of the gradient

    def claim(self, kind: str, words: str) -> Evidence:
        return Evidence(kind, words, self.shown)

    def beyond(self, x: Any) -> bool:
        return not abs(x) <= self.most

    def evidence(self) -> Evidence:
        if not np.isfinite(self.weight):
            return self.claim("weight not finite", "the weight was not finite before the update")
        if self.result != "weight":
            return self.of_a_moment()
        direction, why = self.direction()
        if direction is None:
            return self.claim("0/0", why)
        if self.beyond(direction):
            return self.of_a_gradient(f"the step before the rate, {short(direction)}, is beyond {short(self.limit)}")
        return self.of_the_rate(direction) or self.of_the_sum(direction)

    def of_a_moment(self) -> Evidence:
        gradient = self.gradient + self.pulled
        if self.result == "exp_avg_sq" and self.beyond(gradient * gradient):
            words = (
                f"the square of the gradient {short(gradient)} is beyond {short(self.limit)}, and with it exp_avg_sq"
            )
            return self.of_a_gradient(words)
        if self.beyond(gradient):
            return self.of_a_gradient(f"the gradient {short(gradient)} is beyond {short(self.limit)}")
        return self.claim("sum overflow", f"the new {self.result} is beyond {short(self.limit)}")

    def of_a_gradient(self, words: str) -> Evidence:
        """Of a gradient that is too large: its own doing, or that of the decay which was added to it."""
        if self.decay > 1 and abs(self.pulled) > abs(self.gradient):
            pulled = f"weight_decay {short(self.decay)} times the weight {short(self.weight)} is {short(self.pulled)}"
            return self.claim(DECAY, f"{pulled}; {words}")
        return self.claim("product overflow", words)

    def direction(self) -> tuple[Any, str]:
        """The step before the rate, or None and why a denominator of 0 leaves none."""
        wide = self.wide
        if "direction" in wide:  # the rule knows it
            why = "the norm of the momentum is 0, and so is eps: nothing is left to divide by"
            return (None if np.isnan(wide["direction"]) else wide["direction"]), why
        if "eps" not in wide:
            return wide.get("new momentum", self.gradient + self.pulled), ""
        first, second, eps = wide["new exp_avg"], wide["new exp_avg_sq"], wide["eps"]
        root = np.sqrt(second / wide["1 - beta2^t"]) if second >= 0 else np.longdouble(math.nan)
        if root + eps == 0:
            words = f"exp_avg {short(first)} over the root of exp_avg_sq, which is 0, plus eps, which is {short(eps)}"
            return None, words
        return first / (root + eps), ""

    def size(self) -> tuple[Any, str]:
        """What the direction is multiplied by, and how it comes from the rate."""
        if "1 - beta1^t" in self.wide:
            correction = self.wide["1 - beta1^t"]
            size = self.rate / correction
            return size, f"a rate of {short(self.rate)} / {short(correction)} (1 - beta1^t) = {short(size)}"
        if "rate factor" in self.wide:
            factor = self.wide["rate factor"]
            return self.rate * factor, f"a rate of {short(self.rate)} times {short(factor)}"
        return self.rate, f"a rate of {short(self.rate)}"

    def of_the_rate(self, direction: Any) -> Evidence | None:
        """The rate alone is out of range, or its product with the direction is."""
        size, said = self.size()
        if self.beyond(self.rate):
            words = (
                f"the rate {short(self.rate)} is itself beyond {short(self.limit)}, the largest number of the weights"
            )
            return self.claim(RATE, words)
        if self.beyond(size):
            times = ", and infinity times a step of 0 is not a number" if direction == 0 else ""
            return self.claim(RATE, f"{said} is beyond {short(self.limit)}{times}")
        if self.beyond(size * direction):
            words = f"{said} times a step of {short(direction)} is beyond {short(self.limit)}"
            if self.rate > 1 and size > abs(direction):
                return self.claim(RATE, words)
            return self.of_a_gradient(words)
        return None

    def of_the_sum(self, direction: Any) -> Evidence:
        """What is left of the weight after its decay, plus the move."""
        size, said = self.size()
        move = size * direction
        factor = 1 - self.rate * self.decay if self.decoupled else np.longdouble(1)
        kept = factor * self.weight
        decays = (
            f"a rate of {short(self.rate)} and a weight_decay of {short(self.decay)} multiply the weight "
            f"{short(self.weight)} by {short(factor)}"
        )
        by_decay = abs(factor) > 1 and abs(kept) > abs(move)
        if self.beyond(factor) or (by_decay and self.beyond(kept - move)):
            at = f", and that is beyond {short(self.limit)}"
            return self.claim(RATE if self.rate > 1 else DECAY, decays + at)
        if self.decay > 1 and abs(self.pulled) > abs(self.gradient) and self.beyond(kept - move):
            pulled = f"weight_decay {short(self.decay)} times the weight {short(self.weight)} is {short(self.pulled)}"
            words = (
                f"{pulled}, a part of the step; times a rate of {short(self.rate)} it goes beyond {short(self.limit)}"
            )
            return self.claim(RATE if self.rate > 1 else DECAY, words)
        moves = f"{said} times a step of {short(direction)}"
        if not self.beyond(kept - move):
            words = f"{moves}, added to the weight {short(self.weight)}, is {short(kept - move)}, so the value does not"
            return self.claim("unknown", f"{words} come from this update: a planted fault, memory or the processor")
        if self.rate > 1 and size > abs(direction) and abs(move) > abs(kept):
            return self.claim(RATE, f"{moves} takes the weight {short(self.weight)} beyond {short(self.limit)}")
        return self.claim(
            "sum overflow", f"{moves}, added to the weight {short(self.weight)}, is beyond {short(self.limit)}"
        )
