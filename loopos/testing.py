"""Faults on purpose: to see that what should notice them does.

    from loopos import testing

    with testing.planted(model, "blocks.1.attn.o_proj.y", (0, 4, 11), math.nan, step=3):
        loopos.train(model, data, max_steps=10)          # NonFiniteError at step 3, born in that element

Tensors are named as in :func:`loopos.trace_step`, which lists those of a model, and as in ``NonFiniteError.birth``. A
planted fault acts in the step itself and in its repetition under a trace, so that both have the same bits. Faults
inside a step are context managers: they end with their block, and one that never acted says so with a LookupError
there, for a test of a fault that did not happen proves nothing. A model without one pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from . import checks
from .health.ledger import trace_step
from .model import Model
from .network import Network
from .optim.base import Optimizer

__all__ = [
    "DENORMAL",
    "Spoiled",
    "dead_layer",
    "ignored_learning_rate",
    "missing_backward",
    "planted",
    "spoiled_weight",
]

DENORMAL = 1e-45  # the smallest number above 0 of float32

_PHASES = ("forward", "backward")


@contextmanager
def planted(
    model: Model | Network,
    tensor: str,
    index: tuple[int, ...] | None,
    value: float,
    *,
    phase: str = "forward",
    op: str | None = None,
    step: int | None = None,
    micro_batch: int | None = None,
    flag: bool = True,
) -> Iterator[None]:
    """Writes ``value`` (NaN, inf, DENORMAL, 1e30, ...) into one element of a tensor right after it is computed, in
    training steps and in ``loss_and_grads``.

    tensor, phase: as trace_step names them. The gradient of a weight is phase "backward" and the weight's name.
    index: the element, a tuple into the tensor; None: every element. op: only when this operation computes it.
    step: of :func:`loopos.train`, from 1; micro_batch: of its micro-batches, from 0. None: in every one.
    flag: raise the floating-point flag that arithmetic raises when such a value is born. False: as a value from
    elsewhere (memory, a file). Then NaN and inf are still noticed, for they spread; a -inf among the logits of tokens
    that are not the target gives a probability of 0 and a finite loss, and is not.

    ValueError for another phase; LookupError at the end of the block when nothing was written."""
    if not isinstance(model, Model | Network):
        raise TypeError(f"planted: model must be a Model, a Captioner or an ImageEncoder, got {checks.shown(model)}")
    phase = checks.choice("planted", "phase", phase, _PHASES)
    fault = {
        "phase": phase,
        "op": op or "",
        "tensor": tensor,
        "index": [] if index is None else [int(i) for i in index],
        "value": float(value),
        "flag": checks.boolean("planted", "flag", flag),
        "step": None if step is None else checks.integer("planted", "step", step, low=1) - 1,
        "micro": None if micro_batch is None else checks.integer("planted", "micro_batch", micro_batch, low=0),
    }
    if index == ():
        raise ValueError("planted: index must name an element, as a tuple of one number for each axis, or be None")
    number = model._core._add_plant(fault)
    try:
        yield
    except BaseException:
        model._core._remove_plant(number)
        raise
    if model._core._remove_plant(number) == 0:
        what = tensor if index is None else f"{tensor}{list(index)}"
        shape = _shape_of(model, phase, op, tensor) if index is not None and isinstance(model, Model) else None
        if index is not None and shape is not None and not _fits(index, shape, exact=tensor in model.parameters()):
            tokens = model.config.context_length
            raise LookupError(
                f"planted: the index of {what} does not fit: for one row of {tokens} tokens the shape of that tensor "
                f"(phase {phase}) is {shape}, and indices count from 0; nothing was planted"
            )
        raise LookupError(
            f"planted: {what} never came by in phase {phase}"
            + (f", op {op}" if op else "")
            + (f", step {step}" if step is not None else "")
            + ", so nothing was planted; loopos.trace_step(model, ids, targets) lists the tensors of a step"
        )


def _shape_of(model: Model, phase: str, op: str | None, tensor: str) -> tuple[int, ...] | None:
    """Of a tensor in a step on one row of the longest kind; None when no such tensor comes by."""
    row = np.zeros((1, model.config.context_length), np.int64)
    for frame in trace_step(model, row, row):
        if (frame["phase"], frame["tensor"]) == (phase, tensor) and op in (None, frame["op"]):
            return tuple(frame["shape"])
    return None


def _fits(index: tuple[int, ...], shape: tuple[int, ...], exact: bool) -> bool:
    """Whether a batch could have had this element: unless ``exact``, the first axis counts rows of the batch."""
    inside = [0 <= at < size for at, size in zip(index, shape, strict=False)]
    return len(index) == len(shape) and all(inside if exact else [index[0] >= 0, *inside[1:]])


@contextmanager
def dead_layer(model: Model, layer: int, part: str = "mlp", **when: Any) -> Iterator[None]:
    """A branch of a block that gives 0, whatever goes in, and learns nothing: part "mlp" or "attn".

    when: step and micro_batch as in :func:`planted`."""
    part = checks.choice("dead_layer", "part", part, ("mlp", "attn"))
    name = f"blocks.{layer}.{part}.{'down_proj' if part == 'mlp' else 'o_proj'}"
    with ExitStack() as stack:
        stack.enter_context(planted(model, f"{name}.y", None, 0.0, **when))
        gradients = [f"{name}.dx", *(n for n in model.parameters() if n.startswith(f"{name}."))]
        for tensor in gradients:
            stack.enter_context(planted(model, tensor, None, 0.0, phase="backward", **when))
        yield


def missing_backward(model: Model, tensor: str, **when: Any) -> Any:
    """A backward pass that was never written: the gradient ``tensor`` is 0 throughout, and so is what follows from it.

    "blocks.0.attn.dqkv" is attention's, "blocks.0.mlp.dx" the activation's, "blocks.0.attn_norm.dx" a norm's.
    when: op, step and micro_batch as in :func:`planted`."""
    return planted(model, tensor, None, 0.0, phase="backward", **when)


@contextmanager
def ignored_learning_rate(rate: float = 0.0) -> Iterator[None]:
    """Every optimizer of the process takes ``rate`` instead of the one it is told: a trainer that never hands its
    learning rate on."""
    rate = checks.real("ignored_learning_rate", "rate", rate, low=0)
    sound = Optimizer._step

    def deaf(self: Any, grads: list[np.ndarray], lr: float, *rest: float) -> dict | None:
        return sound(self, grads, rate, *rest)

    Optimizer._step = deaf  # type: ignore[method-assign]
    try:
        yield
    finally:
        Optimizer._step = sound  # type: ignore[method-assign]


@contextmanager
def spoiled_weight(model: Model, name: str, index: tuple[int, ...] | None, value: float) -> Iterator[None]:
    """One element of a weight (None: all) is ``value`` inside the block, and what it was before after it.

    KeyError for a name that the model does not have."""
    view = model.parameters()[name]
    where = ... if index is None else index
    kept = np.array(view[where])
    view[where] = value
    try:
        yield
    finally:
        view[where] = kept


class Spoiled:
    """A data set with wrong ids or labels in one micro-batch: ``loopos.train(model, testing.Spoiled(data, ...))``.

    data: an object with ``batch(step, micro) -> (ids, targets)``, such as :class:`loopos.data.TokenStream`.
    ids, targets: {(row, token): number}; a label of -100 does not count. step: from 1, None: every step; micro_batch:
    from 0, None: all. ``fired`` counts the batches that were changed."""

    def __init__(
        self,
        data: Any,
        *,
        ids: Mapping[tuple[int, int], int] | None = None,
        targets: Mapping[tuple[int, int], int] | None = None,
        step: int | None = None,
        micro_batch: int | None = None,
    ):
        if not callable(getattr(data, "batch", None)):
            raise TypeError(f"Spoiled: data must have batch(step, micro), got {checks.shown(data)}")
        self._data, self._ids, self._targets = data, dict(ids or {}), dict(targets or {})
        self._step, self._micro = None if step is None else step - 1, micro_batch
        self.fired = 0
        if hasattr(data, "__len__"):
            self.__class__ = _SpoiledWithLength

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        ids, targets = self._data.batch(step, micro)
        if self._step in (None, step) and self._micro in (None, micro):
            ids, targets = np.array(ids), np.array(targets)
            for array, changes in ((ids, self._ids), (targets, self._targets)):
                for place, value in changes.items():
                    array[place] = value
            self.fired += 1
        return ids, targets


class _SpoiledWithLength(Spoiled):
    """Data that know how many batches they have still do."""

    def __len__(self) -> int:
        return len(self._data)
