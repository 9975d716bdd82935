"""What may be said of optimizers that were trained from the same seeds, and what not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from loopos.scoring.intervals import Interval, paired_means

RULE = (
    "The best is the optimizer with the lowest mean held-out loss at the end, of those that finished with every seed. "
    "Each other one is compared with it by the differences of the two losses at the same seed: Student's t interval of "
    "their mean, so wide that all of them hold together with 95 % (Bonferroni). Where it holds 0, the difference is "
    "within the spread of the seeds."
)


class Verdict(NamedTuple):
    """kind: "best", "within", "worse", "ended", "crashed", "no rate", "one seed", "not judged". difference: from the
    best, mean and interval; None where there is none."""

    kind: str
    says: str
    difference: tuple[float, Interval] | None = None


def of_losses(losses: Mapping[str, Mapping[int, float]]) -> dict[str, Verdict]:
    """Of optimizers that finished: held-out losses by seed, the same seeds of all, at least one."""
    means = {name: math.fsum(found.values()) / len(found) for name, found in losses.items()}
    best = min(means, key=lambda name: means[name])
    seeds = sorted(losses[best])
    others = len(losses) - 1
    if len(seeds) < 2:
        gap = {name: mean - means[best] for name, mean in means.items()}
        said = {name: f"{gap[name]:+.4f} from the lowest" if name != best else "the lowest" for name in gap}
        return {name: Verdict("one seed", f"one seed: no spread, no ranking ({text})") for name, text in said.items()}
    verdicts = {}
    for name in losses:
        if name == best:
            continue
        apart = np.array([losses[name][seed] - losses[best][seed] for seed in seeds])
        interval = paired_means(apart, others)
        mean = float(np.mean(apart))
        told = f"{mean:.4f} ({interval.low:.4f} to {interval.high:.4f})"
        inside = interval.low <= 0 <= interval.high
        says = f"within the spread of the best: {told}" if inside else f"worse than {best} by {told}"
        verdicts[name] = Verdict("within" if inside else "worse", says, (mean, interval))
    near = [name for name, found in verdicts.items() if found.kind == "within"]
    says = "the only one that finished" if not others else "best"
    if near:
        says = f"lowest, but {', '.join(near)} {'is' if len(near) == 1 else 'are'} within the spread of the seeds"
    return {name: Verdict("best", says) if name == best else verdicts[name] for name in losses}
