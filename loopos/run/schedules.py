"""How long a run is and which learning rate each update takes: pure functions of their arguments."""

from __future__ import annotations

import math
from typing import Any

from loopos import checks

SCHEDULES = ("cosine", "linear", "constant")


def check_schedule(
    *, learning_rate: Any, lr_schedule: Any = "cosine", warmup_steps: Any = 0, min_lr: Any = 0.0
) -> tuple[float, str, int, float]:
    """The four settings as (float, str, int, float), or TypeError / ValueError naming the one that is wrong.

    learning_rate >= 0 and finite (0 is legal), warmup_steps >= 0, 0 <= min_lr, and min_lr <= learning_rate unless the
    schedule is "constant", which has no use for it."""
    rate = checks.real("train", "learning_rate", learning_rate, low=0)
    schedule = checks.choice("train", "lr_schedule", lr_schedule, SCHEDULES)
    warmup = checks.count("train", "warmup_steps", warmup_steps, low=0)
    floor = checks.real("train", "min_lr", min_lr, low=0)
    if schedule != "constant" and floor > rate:
        raise ValueError(
            f"train: min_lr is where the schedule ends and must be at most learning_rate {rate:g}, got {floor:g}"
        )
    return rate, schedule, warmup, floor


def learning_rate(
    t: int, max_steps: int, *, lr: float, schedule: str = "cosine", warmup_steps: int = 0, min_lr: float = 0.0
) -> float:
    """The rate of update t = 0, 1, ..., max_steps - 1.

    t < warmup_steps:  lr (t + 1) / warmup_steps
    otherwise, with p = (t - warmup_steps) / max(1, max_steps - warmup_steps):
        "cosine"    min_lr + (lr - min_lr) (1 + cos(pi p)) / 2        (Loshchilov and Hutter 2017, one period)
        "linear"    min_lr + (lr - min_lr) (1 - p)
        "constant"  lr

    t outside 0..max_steps: ValueError (past the end the cosine would climb again)."""
    if schedule not in SCHEDULES:
        raise ValueError(f"learning_rate: schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if not 0 <= t <= max_steps:
        raise ValueError(f"learning_rate: t must be an update from 0 to max_steps {max_steps}, got {t}")
    if t < warmup_steps:
        return lr * (t + 1) / warmup_steps
    if schedule == "constant":
        return lr
    p = (t - warmup_steps) / max(1, max_steps - warmup_steps)
    weight = (1 + math.cos(math.pi * p)) / 2 if schedule == "cosine" else 1 - p
    return min_lr + (lr - min_lr) * weight


def ahead(t: int, max_steps: int, warmup_steps: int) -> float:
    """How many times the rate of update t the highest is that comes after it: above 1 in a warm-up alone."""
    return max(1.0, min(warmup_steps, max_steps) / (t + 1))


def total_steps(max_steps: Any, epochs: Any, steps_per_epoch: int | None) -> int:
    """How many updates a run has: ``max_steps``, or ``epochs`` times ``steps_per_epoch``, whichever ends first; one
    epoch when both are None. ``steps_per_epoch`` is None for a dataset without len(): then ``max_steps`` must be
    given. Settings below 1, or a run of more than
    2**63 - 1 updates: ValueError."""
    limit = None if max_steps is None else checks.count("train", "max_steps", max_steps)
    count = None if epochs is None else checks.count("train", "epochs", epochs)
    if count is None and limit is not None:
        return limit
    if steps_per_epoch is None:
        asked = "one epoch (neither max_steps nor epochs is given)" if count is None else f"epochs {count}"
        raise ValueError(f"train: {asked} needs a dataset with len() = steps per epoch; give it one, or pass max_steps")
    whole = (count or 1) * steps_per_epoch
    whole = whole if limit is None else min(limit, whole)
    if whole > checks.MAX_COUNT:
        raise ValueError(
            f"train: epochs {count or 1} of {steps_per_epoch} steps are {whole} updates, more than {checks.MAX_COUNT}; "
            "give fewer epochs, or max_steps"
        )
    return whole
