"""What the loss is: given what it takes, and with the sign that makes it fall as the model learns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loopos.health.doctor.report import FAIL, OK, WARN, Check

from .check_targets import IGNORE, NEAR
from .pulls import pulled_from
from .subject import NotApplicable, Subject
from .tree import tensors


def arguments(subject: Subject) -> Check:
    """Losses get logits, probabilities or log-probabilities, whichever they take."""
    seen, name = subject.first().seen, "arguments of the loss"
    if not seen.taken:
        raise NotApplicable("no loss of torch.nn.functional that takes logits or log-probabilities is called")
    if not seen.wrong:
        return Check(name, f"{', '.join(sorted(seen.taken))}: as it takes them", "what each takes", OK)
    wrong = seen.wrong[0]
    advice = (
        f"{wrong.loss} takes {wrong.wanted}: with others its value and its gradient are wrong, and no error is raised"
    )
    return Check(name, f"{wrong.loss} is given {wrong.given}", wrong.wanted, FAIL if wrong.sure else WARN, advice)


def sign(subject: Subject) -> Check:
    """No loss that is a known one with a minus before it, alone or beside other terms (a penalty on the weights)."""
    run, name, expected = subject.first(), "sign of the loss", "one that falls as the model learns"
    groups = [group for optimizer in subject.optimizers for group in optimizer.param_groups]
    if all(group.get("maximize") for group in groups):
        return Check(name, f"{run.loss:.6g}, which the optimizer maximizes", expected, OK)
    advice = "it falls as the model gets worse: leave the minus out (or put it before a mean of log-probabilities)"
    for said, value in _known(run) if run.loss < 0 else ():
        if abs(value + run.loss) <= NEAR * max(abs(run.loss), 1e-3):
            return Check(name, f"{run.loss:.6g}, the negative of {said}", "the loss itself", FAIL, advice)
    factors = {} if run.seen.folded else run.seen.factors
    if factors and max(factors.values()) <= 0 and min(factors.values()) < 0:
        (which, _), factor = min(factors.items(), key=lambda each: each[1])
        text = f"{run.loss:.6g}, in which {which} has the factor {factor:.4g}"
        return Check(name, text, "a factor above 0", FAIL, advice)
    said = None if factors or run.seen.folded or run.calls != 1 else pulled_from(run)
    if said is not None:
        text = f"{run.loss:.6g}, which pulls the outputs as the negative of {said} does"
        return Check(name, text, expected, FAIL, advice)
    return Check(name, f"{run.loss:.6g}, none that is known with a minus", expected, OK)


def _known(run: Any) -> Iterator[tuple[str, float]]:
    """(words, value) of losses of the model's outputs and the batch's tensors."""
    outputs = [
        (name, t.detach().double()) for name, t in tensors(run.outputs) if t.is_floating_point() and t.numel() > 1
    ]
    for _, output in outputs:
        for name, target in tensors(run.batch):
            if target.is_complex():
                continue
            for said, value in _of_classes(output, target) if not target.is_floating_point() else ():
                yield f"{said} with {name or 'the labels'}", value
            if target.numel() == output.numel():
                for said, value in _of_numbers(output.reshape(-1), target.reshape(-1).double()):
                    yield f"{said} with {name or 'the targets'}", value


def _of_classes(output: Any, target: Any) -> Iterator[tuple[str, float]]:
    from torch.nn import functional

    classes = output.shape[1] if output.ndim > 1 and target.shape != output.shape[:-1] else output.shape[-1]
    rows = output if classes == output.shape[-1] else output.movedim(1, -1)
    rows, labels = rows.reshape(-1, classes), target.reshape(-1).long()
    scored = labels != IGNORE
    valid = labels[scored]
    if classes < 2 or len(labels) != len(rows) or not len(valid) or int(valid.min()) < 0 or int(valid.max()) >= classes:
        return
    for reduction in ("mean", "sum"):
        yield "a cross-entropy", float(functional.cross_entropy(rows, labels, reduction=reduction, ignore_index=IGNORE))
        if bool(rows.min() > 0):
            yield "a cross-entropy", float(functional.nll_loss(rows.log(), labels, reduction=reduction))


def _of_numbers(output: Any, target: Any) -> Iterator[tuple[str, float]]:
    from torch.nn import functional

    between = bool(target.min() >= 0) and bool(target.max() <= 1)
    for reduction in ("mean", "sum"):
        if between:
            yield (
                "a binary cross-entropy",
                float(functional.binary_cross_entropy_with_logits(output, target, reduction=reduction)),
            )
        if between and bool(output.min() >= 0) and bool(output.max() <= 1):
            yield "a binary cross-entropy", float(functional.binary_cross_entropy(output, target, reduction=reduction))
        for said, loss in (("a squared error", functional.mse_loss), ("an absolute error", functional.l1_loss)):
            yield said, float(loss(output, target, reduction=reduction))
