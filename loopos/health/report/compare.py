"""Two runs side by side: whose loss is lower, or why that cannot be said of them.

Losses are compared step by step, which takes out what both runs share: the hardness of a batch. That holds only where
a step means the same in both. So runs with other learning rates, other phases or other batches are not compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from loopos.checks import finite_or_none
from loopos.health.runs import Run

FEWEST = 8  # common losses below which nothing is said
_SAME = 1e-6  # relative: learning rates that are written in decimal digits
_DEVIATIONS = 1.96  # of a normal distribution: 95 % lie within


@dataclass(frozen=True)
class RunComparison:
    """comparable: whether the losses can be compared; reasons: sentences on why not; steps: that both runs logged with
    a loss; difference: mean of B's loss minus A's over the later half of them; interval: 95 % of it (low, high). The
    last two are None where the runs cannot be compared."""

    comparable: bool
    reasons: tuple[str, ...]
    steps: int
    difference: float | None = None
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        if not self.comparable:
            return f"not comparable: {'; '.join(self.reasons)}"
        low, high = self.interval
        over = f"over the later half of {self.steps} common steps (95 %: {low:+.4f} to {high:+.4f})"
        if low <= 0 <= high:
            return f"no difference beyond noise: B's loss minus A's is {self.difference:+.4f} {over}"
        return f"B's loss is {'lower' if high < 0 else 'higher'} by {abs(self.difference):.4f} {over}"


def compare(a: Run, b: Run) -> RunComparison:
    """Of two runs, by their logs."""
    of_a, of_b = ({step: r for step, r in run.by_step().items() if r.get("valid_tokens") != 0} for run in (a, b))
    steps = [step for step in of_a if step in of_b and _loss(of_a[step]) is not None and _loss(of_b[step]) is not None]
    bad = [
        f"{name} has a loss that is not finite at step {step}"
        for name, records in (("A", of_a), ("B", of_b))
        for step in [next((s for s, r in records.items() if "loss" in r and _loss(r) is None), None)]
        if step is not None
    ]
    reasons = [*bad, *_apart(of_a, of_b), *_phases(of_a, of_b, steps)]
    if not reasons and len(steps) < FEWEST:
        reasons.append(f"{len(steps)} losses of the same steps are too few: at least {FEWEST} are needed")
    if reasons:
        return RunComparison(False, tuple(reasons), len(steps))
    later = steps[len(steps) // 2 :]
    differences = [_loss(of_b[step]) - _loss(of_a[step]) for step in later]
    mean = math.fsum(differences) / len(differences)
    spread = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (len(differences) - 1) / len(differences))
    return RunComparison(True, (), len(steps), mean, (mean - _DEVIATIONS * spread, mean + _DEVIATIONS * spread))


def _loss(record: dict[str, Any]) -> float | None:
    return finite_or_none(record.get("loss"))


def _apart(of_a: dict[int, Any], of_b: dict[int, Any]) -> list[str]:
    if not of_a or not of_b:
        return ["one of the logs has no step with a target"]
    if max(of_a) < min(of_b) or max(of_b) < min(of_a):
        return [f"other phases: steps {min(of_a)} to {max(of_a)} against {min(of_b)} to {max(of_b)}"]
    return []


def _phases(of_a: dict[int, Any], of_b: dict[int, Any], steps: list[int]) -> list[str]:
    """What of the common steps is not the same step of one plan."""
    names = (
        ("learning_rate", "other learning rates"),
        ("epoch", "other phases"),
        ("valid_tokens", "other batches"),
    )
    found = []
    for name, what in names:
        pairs = [(step, finite_or_none(of_a[step].get(name)), finite_or_none(of_b[step].get(name))) for step in steps]
        known = [(step, x, y) for step, x, y in pairs if x is not None and y is not None]
        other = [pair for pair in known if not math.isclose(pair[1], pair[2], rel_tol=_SAME)]
        if other:
            step, x, y = other[0]
            shown = name.replace("_", " ")
            found.append(f"{what}: {shown} {x:g} against {y:g} at step {step}, and so at {len(other)} of {len(known)}")
    return found
