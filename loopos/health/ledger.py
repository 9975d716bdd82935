"""loopos.trace_step: every tensor of one step, forward and backward, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks
from loopos.model import Model


def trace_step(
    model: Model,
    ids: np.ndarray,
    targets: np.ndarray,
    *,
    ignore_index: int = -100,
    documents: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """The tensors of forward and backward of ``model.loss_and_grads`` with the same arguments, in the order of
    execution: first the weights, then activations, the loss, gradients. A step that meets a number that is not finite
    ends with the first tensor that holds one. No weight, gradient or count changes.

    Each is a dict:
        phase        "forward" or "backward"
        layer        the block, None outside blocks
        op           what computed it; "parameter" for a weight
        tensor       its name; ".scores" of attention are those before the softmax that a causal query sees
        shape        a tuple
        min, max     of its finite elements, None where there is none
        rms          root mean square of these: its growth from block to block is the growth of the signal
        zeros        share of elements that are 0
        nonfinite    share of elements that are NaN or infinite
        flags        floating-point flags raised in computing it: "invalid", "divide", "overflow"
        eps_rows     for the result of a norm: rows whose variance is below its eps

    Costs a few times a step. Raises as ``loss_and_grads`` does for ids and targets, but no NonFiniteError.
    """
    if not isinstance(model, Model):
        raise TypeError(f"trace_step: model must be a Model, got {checks.shown(model)}")
    ignore_index = checks.integer("trace_step", "ignore_index", ignore_index, low=-(2**63), high=2**63 - 1)
    scale = 1.0 / max(1, int(np.count_nonzero(np.asarray(targets) != ignore_index)))
    with model.lock:
        model._core.trace(ids, targets, scale=scale, ignore_index=ignore_index, documents=documents)
        return model._core.ledger()
