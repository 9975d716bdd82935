"""The step once more, with every operation looked at."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch

from loopos.errors import Birth

from . import wrappers
from .birth import birth_of, names_of
from .calls import Call, state_kept, tensors_in
from .finite import is_finite
from .places import Places
from .tracer import Operation, Tracer

OUTSIDE = (
    "outside the model, where hooks cannot see it. watch.step(lambda: loss) includes the loss"  # birth.unseen reads it
)


class Rerun(NamedTuple):
    """birth: None where the repetition is finite; notes: sentences on how far it is the same step; operation: the one
    that bore the number, to be done again."""

    birth: Birth | None
    notes: tuple[str, ...]
    operation: Operation | None = None


def rerun(model: torch.nn.Module, calls: Sequence[Call], parameters: list[torch.nn.Parameter], step: int) -> Rerun:
    """Do the calls of a step again under the tracer. Gradients, buffers and random state are put back afterwards."""
    notes: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(state_kept(model, parameters))
        if wrappers.is_compiled(model):
            torch.compiler.set_stance("force_eager")
            stack.callback(torch.compiler.set_stance, "default")
            notes.append(
                "The model is compiled: its code cannot be looked into, so the step was done again without the "
                "compiler, whose results may differ in their last bits"
            )
        places = stack.enter_context(Places(model))
        weights = [each for each in model.parameters() if each.requires_grad and each.layout is torch.strided]
        tracer = Tracer(places, weights)
        stack.enter_context(torch.enable_grad())
        for number, call in enumerate(calls):
            inputs = [(name, tensor) for name, tensor, _ in call.versions]
            with call.again(), tracer:
                ends = _once(tracer, call, parameters, notes, number if len(calls) > 1 else None)
            record = tracer.birth(ends) if ends else None
            if record is not None:
                names = names_of(model, inputs)
                birth = birth_of(record, step, names, number if len(calls) > 1 else None)
                return Rerun(birth, tuple(notes), record.operation)
    if tracer.lost:
        notes.append(
            "Some operations could not be looked into, for the layout of their tensors: "
            + ", ".join(sorted(tracer.lost)[:4])
        )
    return Rerun(None, tuple(notes))


def _once(
    tracer: Tracer, call: Call, parameters: list[torch.nn.Parameter], notes: list[str], number: int | None
) -> list[torch.Tensor]:
    """The tensors that are not finite and matter: the loss, else gradients of parameters."""
    tracer.phase = "forward"
    result = call.run()
    loss = loss_in(result)
    if call.loss is not None and loss is not None and not _same(loss, call.loss):
        notes.append(_not_the_same(call, loss, number))
    if loss is not None and not is_finite(loss):
        return [loss.detach()]
    tracer.phase = "backward"
    if loss is not None:
        loss.backward()
    else:
        outputs = differentiable(result)
        pairs = [(output, call.gradients[at]) for at, output in enumerate(outputs) if at in call.gradients]
        bad = [output.detach() for output in outputs if not is_finite(output)]
        if bad:
            return bad
        if any(not is_finite(gradient) for _, gradient in pairs):
            notes.append(
                "The model's outputs are finite and the gradient that reached them is not: the number was born in the "
                f"loss, {OUTSIDE}"
            )
            return []
        if call.loss is not None and not is_finite(call.loss):
            notes.append(f"The model's outputs are finite and the loss is not: it was born in the loss, {OUTSIDE}")
            return []
        if pairs:
            torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])
    return [parameter.grad for parameter in parameters if parameter.grad is not None and not is_finite(parameter.grad)]


def loss_in(result: Any) -> torch.Tensor | None:
    """A scalar that can be differentiated: the result, its ``loss``, or of a tuple the first."""
    if isinstance(result, torch.Tensor):
        return result if result.numel() == 1 and result.requires_grad else None
    loss = result.get("loss") if isinstance(result, dict) else getattr(result, "loss", None)
    if isinstance(loss, torch.Tensor):
        return loss_in(loss)
    return loss_in(result[0]) if isinstance(result, (tuple, list)) and result else None


def loss_in_backward() -> torch.Tensor | None:
    """Within a hook of the backward pass: the loss whose ``backward`` is at work, detached. A loop that is watched by
    hooks alone shows it nowhere else."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is torch.Tensor.backward.__code__:
            loss = frame.f_locals.get("self")
            scalar = isinstance(loss, torch.Tensor) and loss.numel() == 1
            return loss.detach() if scalar else None
        frame = frame.f_back
    return None


def differentiable(result: Any) -> list[torch.Tensor]:
    return [tensor for _, tensor in tensors_in(result) if tensor.requires_grad]


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    x, y = float(a.detach()), float(b.detach())
    return x == y or (math.isnan(x) and math.isnan(y))


def _not_the_same(call: Call, loss: torch.Tensor, number: int | None) -> str:
    where = "" if number is None else f" of micro-batch {number}"
    said = (
        f"The repetition did not give the same loss{where}: {float(call.loss):.9g} was, {float(loss.detach()):.9g} is"
    )
    changed = call.changed_inputs()
    if changed:
        return f"{said}. Written in place since the call: {', '.join(changed[:3])}"
    return (
        f"{said}. It may be randomness that no generator of PyTorch, numpy or Python gave, data that the function "
        "takes anew at each call (an iterator), or a kernel that is not deterministic"
    )
