"""From what the core found to a :class:`loopos.Birth`: where a number went bad, and of what it was made.

Nothing here runs in a healthy step. How a value came about is worked out in ``loopos.births.causes``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from loopos.errors import Birth, raised_in

from .growth import Explosion, Growth

LEDGER = 64  # tensors before and with the birth that a Birth keeps


def birth_from(
    found: Mapping[str, Any],
    step: int | None,
    *,
    micro_batch: int | None = None,
    core: Any = None,
    exploded: Explosion | None = None,
    raised: Iterable[Mapping[str, Any]] = (),
    first_row: int = 0,
) -> Birth:
    """The Birth of what the core's trace, or an optimizer, found.

    first_row: of a larger batch, where the one begins that was traced.
    core: the model's, if it is at hand: it has the ledger of the trace. exploded: what the record of the run says of
    weights that are far too large; without one nothing is claimed of them. raised: what ``core.raised()`` said after
    the micro-batch."""
    from . import causes  # only after a hit

    diagnosis = causes.diagnose(found, exploded)
    return Birth(
        step=step,
        phase=found["phase"],
        layer=found.get("layer"),
        op=found["op"],
        tensor=found["tensor"],
        index=tuple(found["index"]),
        value=float(found["value"]),
        cause=diagnosis.cause,
        micro_batch=micro_batch,
        place=causes.place(found),
        operands=diagnosis.operands,
        advice=diagnosis.advice,
        ledger=() if core is None else tuple(core.ledger()[-LEDGER:]),
        raised=tuple(raised),
        first_row=first_row,
    )


def find_birth(
    core: Any,
    calls: Sequence[tuple[np.ndarray, np.ndarray, Mapping[str, Any]]],
    *,
    loss: float,
    norm: float,
    step: int | None,
    raised: Mapping[int, Sequence[Mapping[str, Any]]],
    growth: Growth | None = None,
) -> Birth | None:
    """The first number of this update that is not finite; None when there is none, with a RuntimeWarning that says
    where a floating-point flag was raised all the same.

    calls: (ids, targets, keywords) as ``core.accumulate`` was called with them, in order; loss and norm: what came of
    it, whose gradients the core still holds; step counts from 1; raised: by the number of the call, what
    ``core.raised()`` said after it, of those that were not healthy; growth: the record of the run. Weights and
    optimizer are not touched."""
    finite = math.isfinite(loss) and math.isfinite(norm)
    operations = [operation for call in sorted(raised) for operation in raised[call]]
    if finite and operations and all(operation["finite"] for operation in operations):
        _warn_of_flags(operations)
        return None
    frames: list[Mapping[str, Any]] = []
    for call, (ids, targets, keywords) in enumerate(calls):
        found = core.trace(ids, targets, **keywords)
        if found is not None:
            exploded = None if growth is None else growth.explosion(core.parameters())
            which = keywords.get("micro", call) if step is not None else None
            seen = {"raised": raised.get(call, ()), "first_row": keywords.get("first_row", 0)}
            return birth_from(found, step, micro_batch=which, core=core, exploded=exploded, **seen)
        frames += core.ledger()
    if not finite:
        exploded = None if growth is None else growth.explosion(core.parameters())
        return birth_from(_found_in_the_sum(core, loss, norm), step, exploded=exploded, raised=operations)
    _warn_of_flags([frame for frame in frames if frame["flags"]], ". Such a step costs twice the time")
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


def _warn_of_flags(raised: Sequence[Mapping[str, Any]], cost: str = "") -> None:
    """Inside an operation something left the range, and its result is finite all the same. The text names no step, so
    that a run in which it happens in every step is reported once for each place."""
    if not raised:
        text = "the processor's floating-point flags were up after the step, and in its repetition they are not"
    else:
        also = f" and in {len(raised) - 1} more" if len(raised) > 1 else ""
        text = (
            f"a number left the range: floating-point flags {raised_in(raised[0])}{also}, and every number that the "
            f"step keeps is finite all the same: its result was used{cost}"
        )
    warnings.warn(f"{text}. loopos.trace_step shows each tensor", RuntimeWarning, stacklevel=4)


def refused_update(found: Mapping[str, Any], step: int | None, exploded: Explosion | None = None) -> Birth:
    """The Birth of what the optimizer refused: it knows the tensor and its rule, not the block. A weight that was
    not finite before is its own birth, although no forward pass met it. exploded: as of :func:`birth_from`."""
    before = found.get("operands", {}).get("weight")
    if step is not None and before is not None and not math.isfinite(before):
        found = {**found, "phase": "forward", "op": "parameter", "value": before}
    op = "gradient" if found["phase"] == "backward" else found["rule"]
    return birth_from({"layer": layer_of(found["tensor"]), "op": op, **found}, step, exploded=exploded)


def layer_of(name: str) -> int | None:
    """The block number in a parameter's dotted name: its first all-digit component."""
    return next((int(part) for part in name.split(".") if part.isascii() and part.isdigit()), None)
