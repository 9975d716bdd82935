"""What reaches what: no row the others, no token those before it; and generation keeps to its length."""

from __future__ import annotations

from typing import Any

from loopos.health.doctor.report import FAIL, OK, WARN, Check

from . import check_targets
from .ahead import ahead, distance, outputs
from .subject import NotApplicable, Subject
from .tree import mapped, tensors

APART = 1e-3  # relative to the outputs' rms


def batch_invariance(subject: Subject) -> Check:
    """The output for the first row does not depend on the other rows."""
    subject.first()
    rows, at = subject.rows()
    if rows < 2:
        raise NotApplicable("the batch has one row")
    if at == 1 and any(t.ndim < 2 for _, t in tensors(subject.batch)):
        raise NotApplicable("it is not clear along which dimension the rows lie")

    def first_only(_: str, tensor: Any) -> Any:
        if tensor.ndim <= at or tensor.shape[at] != rows:
            return tensor
        return tensor.index_select(at, tensor.new_zeros(rows).long()).clone()

    whole = outputs(subject, subject.batch)
    again = outputs(subject, subject.batch)
    if distance(whole, again) > 0:
        raise NotApplicable("the outputs are random in evaluation mode")
    if whole.ndim <= at or whole.shape[at] != rows or (whole.ndim == 2 and whole.shape[0] == whole.shape[1] == rows):
        raise NotApplicable("the outputs have no row for each row of the batch")
    changed = mapped(subject.batch, first_only)
    if not _enters_alone(subject, changed, rows, at):
        raise NotApplicable("rows are mixed before they come to the model, as by mixup")
    alone = outputs(subject, changed)
    gap = distance(whole.select(at, 0), alone.select(at, 0))
    advice = "a reshape, a mean or an attention runs over the batch: look for view, transpose and batch_first"
    said = f"row 0 changes by {gap:.2g} of the outputs when the other rows change"
    return _judged("batch invariance", gap, said, advice)


def _enters_alone(subject: Subject, changed: Any, rows: int, at: int) -> bool:
    """Whether the model is given the same first row when the batch has others after it."""
    given = []
    for batch in (subject.batch, changed):
        inputs = subject.run(train=False, batch=batch, still=True).inputs
        given.append([t.select(at, 0) for _, t in tensors(inputs) if t.ndim > at and t.shape[at] == rows])
    return all(one.shape == two.shape and bool((one == two).all()) for one, two in zip(*given, strict=False))


def causality(subject: Subject) -> Check:
    """Of a model that predicts the next token: no output depends on tokens after it."""
    if not check_targets.predicts_next(subject):
        raise NotApplicable("it is not scored on the next token")
    gap = ahead(subject)
    advice = "the model sees the token that it is scored on: is_causal=True, or a mask of -inf above the diagonal"
    return _judged("causality", gap, f"outputs change by {gap:.2g} when later tokens change", advice)


def _judged(name: str, gap: float, said: str, advice: str) -> Check:
    """A change of outputs that ought not to change. said: of one that is too large."""
    expected = f"a change of at most {APART:g}"
    if gap > APART:
        return Check(name, said, expected, FAIL, advice)
    return Check(name, f"{gap:.1e}", expected, OK)


def generation(subject: Subject) -> Check:
    """generate(max_new_tokens=n) gives no more than n tokens, for a prompt as long as the batch's."""
    generate = getattr(subject.model, "generate", None)
    ids = next((t for key, t in tensors(subject.batch) if key in ("input_ids", "prompt_ids") and t.ndim == 2), None)
    if not callable(generate) or ids is None:
        raise NotApplicable("the model has no generate(), or the batch no input_ids")
    import torch

    new = 2
    with subject.kept(weights=False), torch.no_grad():
        subject.model.eval()
        try:
            made = generate(ids[:1], max_new_tokens=new)
        except Exception as error:
            raise NotApplicable(f"generate() was not understood: {type(error).__name__}") from None
    if not isinstance(made, torch.Tensor) or made.ndim != 2:
        raise NotApplicable("generate() gives no tensor of tokens")
    encodes = getattr(getattr(subject.model, "config", None), "is_encoder_decoder", False)
    count = made.shape[1] - (1 if encodes else ids.shape[1])
    if count > new:
        advice = (
            "the limit is worked out from something else than the prompt that the model is given (before it is cut?)"
        )
        return Check("generation", f"{count} new tokens", f"at most {new}", WARN, advice)
    return Check("generation", f"{count} new tokens", f"at most {new}", OK)
