"""The settings of loopos.train in a trial, whatever its task is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .rates import keywords
from .trial import Trial

EVALUATIONS = 10  # over a trial
CHECKPOINTS = 5
WARMUP = 100  # updates, unless asked otherwise
WARMUP_SHARE = 10  # the warm-up is at most a tenth of a trial, which may be a short one of a sweep


def shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the ``settings`` of a task those that are the same in every trial: all but the warm-up."""
    return {name: value for name, value in settings.items() if name != "warmup_steps"}


def of_trial(trial: Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of loopos.train for ``trial`` of a task with these ``settings``."""
    warmup = settings.get("warmup_steps")
    found = shared(settings) | keywords(trial.optimizer, trial.rate)
    found |= {"max_steps": trial.steps, "epochs": None, "seed": trial.seed}
    found["warmup_steps"] = min(WARMUP if warmup is None else warmup, trial.steps // WARMUP_SHARE)
    if not trial.sweep:
        found["eval_every"] = math.ceil(trial.steps / EVALUATIONS)
        found["save_every"] = math.ceil(trial.steps / CHECKPOINTS)
    return found
