"""How far a model's outputs change when a part of the batch does."""

from __future__ import annotations

from typing import Any

from .subject import NotApplicable, Subject
from .tree import mapped, tensors


def outputs(subject: Subject, batch: Any) -> Any:
    """The first floating-point tensor that the model gives, in evaluation mode, without dropout."""
    run = subject.run(train=False, batch=batch, still=True)
    found = [t.detach() for _, t in tensors(run.outputs) if t.is_floating_point() and t.ndim >= 1]
    if not found or run.calls != 1:
        raise NotApplicable("the model is not called once, with a tensor as its output")
    ranked = [t for t in found if t.ndim >= 2]
    return (ranked or found)[0].float()


def distance(one: Any, two: Any) -> float:
    scale = float(one.double().pow(2).mean().sqrt())
    return float((one.double() - two.double()).abs().max()) / (scale or 1.0)


def ahead(subject: Subject) -> float:
    """How far the outputs for a sequence's first half change with its second half, relative to their rms."""
    shape = subject.ids(4).shape
    half = shape[1] // 2

    def other_end(name: str, tensor: Any) -> Any:
        if tensor.is_floating_point() or tensor.shape[:1] != shape[:1] or tensor.ndim != 2 or "mask" in name:
            return tensor
        if tensor.shape[1] < shape[1] or str(tensor.dtype) == "torch.bool":
            return tensor
        changed = tensor.clone()
        changed[:, half + 1 :] = changed[:, half + 1 :].flip(1).roll(1, 0)
        changed[:, half + 1 :] = (
            tensor[:, : half + 1].flip(1)[:, :1] if bool(changed.equal(tensor)) else changed[:, half + 1 :]
        )
        return changed

    one, two = outputs(subject, subject.batch), outputs(subject, mapped(subject.batch, other_end))
    if one.ndim != 3 or one.shape[1] not in (shape[1], shape[1] - 1):
        raise NotApplicable("the outputs have no row for each token")
    return distance(one[:, :half], two[:, :half])
