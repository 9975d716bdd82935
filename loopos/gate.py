"""The gate between gradients and weights: nothing is updated with a number that is not finite.

The core says cheaply that something may be wrong; only then is the update's arithmetic repeated with every tensor
looked at, and the first one that is not finite is the birth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import Birth
from .model import birth_from


def clip_factor(norm: float, max_norm: float | None) -> float:
    """What gradients are multiplied by so that their norm is at most ``max_norm``; 1.0, which changes no bit, when it
    is already."""
    return max_norm / norm if max_norm is not None and norm > max_norm else 1.0


def find_birth(
    core: Any,
    calls: Sequence[tuple[np.ndarray, np.ndarray, Mapping[str, Any]]],
    *,
    loss: float,
    norm: float,
    step: int,
) -> Birth | None:
    """The first number of this update that is not finite; None after a false alarm.

    calls: (ids, targets, keywords) as ``core.accumulate`` was called with them, in order; loss and norm: what came of
    it, whose gradients the core still holds; step counts from 1. Weights and optimizer are not touched."""
    for ids, targets, keywords in calls:
        found = core.trace(ids, targets, **keywords)
        if found is not None:
            return birth_from(found, step)
    if math.isfinite(loss) and math.isfinite(norm):
        return None
    return _born_in_the_sum(core, loss, norm, step)


def _born_in_the_sum(core: Any, loss: float, norm: float, step: int) -> Birth:
    """Each micro-batch alone is finite, so their sum is not."""
    for name, gradient in core.gradients().items():
        finite = np.isfinite(gradient)
        if not finite.all():
            index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), gradient.shape))
            cause = "the gradients of the micro-batches are finite, their sum is too large for the dtype"
            return Birth(step, "backward", layer_of(name), "accumulate", name, index, float(gradient[index]), cause)
    if not math.isfinite(norm):
        cause = "every gradient is finite, the root of the sum of their squares is not"
        return Birth(step, "backward", None, "global_norm", "grad_norm", (), norm, cause)
    cause = "the losses of the micro-batches are finite, their sum is not"
    return Birth(step, "forward", None, "cross_entropy", "loss", (), loss, cause)


def refused_update(found: Mapping[str, Any], optimizer: str, step: int) -> Birth:
    """The Birth of what the optimizer refused: it knows the tensor, not the block nor its own name."""
    return birth_from({"layer": layer_of(found["tensor"]), "op": optimizer, **found}, step)


def layer_of(name: str) -> int | None:
    """The block number in a parameter's dotted name: its first all-digit component."""
    return next((int(part) for part in name.split(".") if part.isascii() and part.isdigit()), None)
