"""From a record of the tracer to a :class:`loopos.Birth` with module and line, and to what is said of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from loopos.births.advice import advice
from loopos.births.arithmetic import Evidence, summary
from loopos.errors import Birth

from .causes import cause_of
from .elements import Found
from .finite import is_finite, plain
from .tracer import Record

Names = Mapping[int, tuple[str, torch.Tensor]]


def birth_of(record: Record, step: int, names: Names, micro_batch: int | None) -> Birth:
    """names: as :func:`names_of` gives them."""
    if record.is_leaf:
        return _of_leaf(record, step, names, micro_batch)
    found: Found = record.found or record.turned or _constant(record)
    short = record.name.partition(".")[2]
    evidence = cause_of(short.removesuffix("_"), found) if record.found else _of_legal(record, found)
    place = record.place
    tensor = f"{place.module}.{short}" if place.module else short
    if found.number is not None:
        tensor += f" (output {found.number})"
    operands = {name: _shown(value) for name, value in found.operands.items()} | dict(evidence.operands)
    scalars = {name: value for name, value in found.attributes.items() if isinstance(value, (int, float))}
    return Birth(
        step=step,
        phase=record.phase,
        layer=None,
        op=record.name,
        tensor=tensor,
        index=found.index,
        value=found.value,
        cause=f"{evidence.kind}: {evidence.words}",
        micro_batch=micro_batch,
        place=_place(record, found),
        operands=operands | {name: value for name, value in scalars.items() if name not in operands},
        advice=advice(evidence.kind, f"{record.name} {place.forward}", tensor, watched=True),
        module=place.module or None,
        source=place.source or None,
    )


def _constant(record: Record) -> Found:
    """Of an infinity that the program wrote and that came through to the loss."""
    return Found((), math.inf if (record.storage or (True,))[0] else -math.inf, {}, "whole")


def _of_legal(record: Record, found: Found) -> Evidence:
    """Of an infinity that the program wrote, and that counts in the loss."""
    seen, waiting = {id(record)}, [record]
    scored, wrote = False, record
    while waiting:
        each = waiting.pop()
        scored |= "log_softmax" in each.name
        wrote = wrote if each.parents else each
        waiting += [parent for parent in each.parents if id(parent) not in seen]
        seen |= {id(parent) for parent in each.parents}
    if scored:
        words = "log_softmax gives a class whose logit is masked the probability 0, and this counts its log"
        return Evidence("log 0", f"{words}: leave such classes out of the loss", {})
    by = f", which {wrote.name} wrote at {wrote.place.source}" if wrote is not record and wrote.place.source else ""
    written = f"the program itself writes {found.value} here" if wrote is record else f"it meets an infinity{by}"
    return Evidence("input not finite", f"{written}, and it counts in the loss", {})


def _shown(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if np.iscomplexobj(value):
            value = np.abs(value)
        finite = np.where(np.isfinite(value), np.abs(value), np.inf)
        return summary(value, int(finite.argmax())) if value.size else {"count": 0}
    return abs(value) if isinstance(value, complex) else value


def _place(record: Record, found: Found) -> str:
    place = record.place
    words = [f"in module {place.module}"] if place.module else []
    words += [f"at {place.source}"] if place.source else []
    words += [f"in the backward of that line, {place.forward}"] if place.forward else []
    return ", ".join([*words, *([f"the {found.part} part of a complex number"] if found.part else [])])


def _of_leaf(record: Record, step: int, names: Names, micro_batch: int | None) -> Birth:
    tensor = record.tensor  # perhaps a view of the one that has a name
    name, whole = names.get(tensor.untyped_storage()._cdata, ("", tensor))
    tensor = tensor if is_finite(whole) else whole.detach()
    kind = "weight not finite" if name.startswith("parameter ") else "input not finite"
    index, value = _first_bad(tensor)
    count = int((~torch.isfinite(tensor)).sum())
    words = f"has {count} of {tensor.numel()} numbers that are not finite"
    said = advice(kind, "input", name, watched=True)
    if name:
        words = f"{name.removeprefix('input ')} {words} before the step begins"
    else:
        words = f"a tensor that no operation of PyTorch wrote in this step {words}"
        said = "find who made it: the program before the step, or something else than PyTorch (numpy) within it"
    named = name.partition(" ")[2] or "input"
    return Birth(
        step=step,
        phase="forward",
        layer=None,
        op=name.partition(" ")[0] or "input",
        tensor=named,
        index=index,
        value=value,
        cause=f"{kind}: {words}",
        micro_batch=micro_batch,
        advice=said,
    )


def names_of(model: torch.nn.Module, inputs: Iterable[tuple[str, torch.Tensor]]) -> dict[int, tuple[str, torch.Tensor]]:
    """By storage, (kind and name, the tensor) of what may be bad before the step: inputs, buffers, parameters."""
    named = [
        *((f"input {name}", each) for name, each in inputs),
        *((f"buffer {name}", each) for name, each in model.named_buffers()),
        *((f"parameter {name}", each) for name, each in model.named_parameters()),
    ]
    dense = ((name, each) for name, each in named if each.layout is torch.strided)
    sparse = ((name, plain(each)) for name, each in named if each.is_sparse or each.is_sparse_csr)
    return {each.untyped_storage()._cdata: (name, each) for name, each in (*dense, *sparse)}


def unseen(
    model: torch.nn.Module,
    bad: Sequence[torch.nn.Parameter],
    called: bool,
    notes: Sequence[str],
    step: int,
    loss: float,
) -> Birth:
    """Of a step whose repetition was finite, or could not see where the number came from. bad: parameters whose
    gradient is not finite; called: a call of the model was seen."""
    outside = any("outside the model" in note for note in notes)
    why = "the same step done again was finite"
    if not called:
        why = "no call of the model was seen before this step"
    elif outside:
        why = "it was born in the loss, outside the model"
    advice = "seed what is random inside the step, and take the batch outside it, so that it can be repeated"
    if bad and called and not notes:
        why += ", with the same loss: its gradients were changed after the backward pass, or cannot be repeated"
        advice = "look at what is done to gradients before the step: clipping, scaling, a division by their norm"
    if outside or not called:
        advice = "use watch.step(lambda: loss), which sees the loss too"
    op, tensor, index, value = "loss", "loss", (), loss
    if bad:
        names = {id(each): name for name, each in model.named_parameters()}
        gradient = bad[0].grad.detach()
        gradient = gradient if gradient.layout is torch.strided else gradient.to_dense()
        index, value = _first_bad(gradient)
        op, tensor = "gradient", f"{names.get(id(bad[0]), 'parameter')}.grad"
    phase = "backward" if bad else "forward"
    return Birth(step, phase, None, op, tensor, index, value, f"unknown: {why}", advice=advice)


def _first_bad(tensor: torch.Tensor) -> tuple[tuple[int, ...], float]:
    """(place, value) of the first element that is not finite."""
    flat = int((~torch.isfinite(tensor)).reshape(-1).to(torch.uint8).argmax())
    index = tuple(int(at) for at in np.unravel_index(flat, tuple(tensor.shape))) if tensor.ndim else ()
    value = plain(tensor[index])
    return index, float(value if value.ndim == 0 else value[int(bool(torch.isfinite(value[0])))])
