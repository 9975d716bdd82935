"""From what the core found to a :class:`loopos.Birth`: where a number went bad, and of what it was made.

Nothing here runs in a healthy step. How a value came about is worked out in ``loopos.health.causes``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import Birth

LEDGER = 64  # tensors before and with the birth that a Birth keeps
HUGE_WEIGHT = 1e3  # no initialisation or trained model has a tensor half of whose weights are larger


def birth_from(
    found: Mapping[str, Any],
    step: int | None,
    *,
    micro_batch: int | None = None,
    core: Any = None,
) -> Birth:
    """The Birth of what the core's trace, or an optimizer, found.

    core: the model's, if it is at hand: it has the ledger of the trace, and weights that tell of a diverging run."""
    from .health import causes  # only after a hit

    exploded = None
    if core is not None and step is not None and step > 1 and found["op"] != "parameter":
        exploded = exploded_weight(core.parameters())
    told = causes.told(found, exploded)
    return Birth(
        step=step,
        phase=found["phase"],
        layer=found.get("layer"),
        op=found["op"],
        tensor=found["tensor"],
        index=tuple(found["index"]),
        value=float(found["value"]),
        cause=told.cause,
        micro_batch=micro_batch,
        place=causes.place(found),
        operands=told.operands,
        advice=told.advice,
        ledger=() if core is None else tuple(core.ledger()[-LEDGER:]),
    )


def find_birth(
    core: Any,
    calls: Sequence[tuple[np.ndarray, np.ndarray, Mapping[str, Any]]],
    *,
    loss: float,
    norm: float,
    step: int | None,
) -> Birth | None:
    """The first number of this update that is not finite; None when there is none, with a RuntimeWarning that says
    where a floating-point flag was raised all the same.

    calls: (ids, targets, keywords) as ``core.accumulate`` was called with them, in order; loss and norm: what came of
    it, whose gradients the core still holds; step counts from 1. Weights and optimizer are not touched."""
    frames: list[Mapping[str, Any]] = []
    for micro, (ids, targets, keywords) in enumerate(calls):
        found = core.trace(ids, targets, **keywords)
        if found is not None:
            which = keywords.get("micro", micro) if step is not None else None
            return birth_from(found, step, micro_batch=which, core=core)
        frames += core.ledger()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return birth_from(_found_in_the_sum(core, loss, norm), step)
    _warn_of_flags(frames)
    return None


def _found_in_the_sum(core: Any, loss: float, norm: float) -> dict[str, Any]:
    """Each micro-batch alone is finite, so their sum is not."""
    for name, gradient in core.gradients().items():
        finite = np.isfinite(gradient)
        if not finite.all():
            index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), gradient.shape))
            value = float(gradient[index])
            return _found("backward", "accumulate", name, index, value) | {"layer": layer_of(name)}
    if not math.isfinite(loss):
        return _found("forward", "cross_entropy", "loss", (), loss)
    return _found("backward", "global_norm", "grad_norm", (), norm)


def _found(phase: str, op: str, tensor: str, index: tuple[int, ...], value: float) -> dict[str, Any]:
    return {"phase": phase, "layer": None, "op": op, "tensor": tensor, "index": index, "value": value}


def _warn_of_flags(frames: Sequence[Mapping[str, Any]]) -> None:
    """Inside an operation something left the range, and its result is finite all the same. The text names no step, so
    that a run in which it happens in every step is told once for each place."""
    raised = [frame for frame in frames if frame["flags"]]
    if not raised:
        text = "the processor's floating-point flags were up after the step, and in its repetition they are not"
    else:
        first = raised[0]
        where = f"in computing {first['tensor']} (op {first['op']}, {first['phase']})"
        also = f" and in {len(raised) - 1} more" if len(raised) > 1 else ""
        text = (
            f"a number left the range {where}{also} (floating-point flags: {', '.join(first['flags'])}), and every "
            "number that the step keeps is finite all the same: its result was used. Such a step costs twice the time"
        )
    warnings.warn(f"{text}. loopos.trace_step shows each tensor", RuntimeWarning, stacklevel=4)


def refused_update(found: Mapping[str, Any], optimizer: str, step: int | None) -> Birth:
    """The Birth of what the optimizer refused: it knows the tensor, not the block nor its own name. A weight that was
    not finite before is its own birth, although no forward pass met it."""
    before = found.get("operands", {}).get("weight")
    if step is not None and before is not None and not math.isfinite(before):
        found = {**found, "phase": "forward", "op": "parameter", "value": before}
    op = "gradient" if found["phase"] == "backward" else optimizer
    return birth_from({"layer": layer_of(found["tensor"]), "op": op, **found}, step)


def layer_of(name: str) -> int | None:
    """The block number in a parameter's dotted name: its first all-digit component."""
    return next((int(part) for part in name.split(".") if part.isascii() and part.isdigit()), None)


def exploded_weight(weights: Mapping[str, np.ndarray]) -> tuple[str, float] | None:
    """The first weight matrix half of whose (at most 4096, evenly spaced) elements are larger than HUGE_WEIGHT, and
    the median of its magnitudes."""
    for name, array in weights.items():
        if array.ndim < 2 or array.size == 0:
            continue
        sample = np.abs(array.reshape(-1)[:: max(1, array.size // 4096)].astype(np.float64))
        median = float(np.median(sample[np.isfinite(sample)])) if np.isfinite(sample).any() else 0.0
        if median > HUGE_WEIGHT:
            return name, median
    return None
