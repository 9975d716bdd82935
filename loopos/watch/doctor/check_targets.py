"""What the loss scores: its labels, what they are labels of, and where a uniform guess lies.

A loss is recognised as a cross-entropy by computing it again, from the model's outputs and the batch's labels, aligned
or shifted by one. Nothing is claimed of a loss that is none of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from loopos.health.doctor.report import FAIL, OK, WARN, Check

from .ahead import ahead
from .subject import NotApplicable, Subject
from .tree import tensors

IGNORE = -100
NEAR = 1e-4  # relative, of a loss and what it is recognised as
TOO_HIGH = 3.0  # times ln V, of a first loss


@dataclass(frozen=True)
class Scored:
    """logits (N, V) against labels (N,): which of the batch's tensors they are, and by how many places shifted."""

    logits: Any
    labels: Any
    name: str
    shift: int
    outputs: str
    loss: float


def _logits(subject: Subject) -> list[tuple[str, Any]]:
    found = [(name, t) for name, t in tensors(subject.first().outputs) if t.is_floating_point() and t.ndim >= 2]
    return [(name, t.detach().float()) for name, t in found if t.shape[-1] > 1]


def scored(subject: Subject) -> Scored:
    """NotApplicable where the loss is no cross-entropy of the outputs and an integer tensor of the batch."""
    from torch.nn.functional import cross_entropy

    run = subject.first()
    integers = [(name, t) for name, t in tensors(run.batch) if not t.is_floating_point() and t.ndim and _whole(t)]
    found: list[tuple[float, Scored]] = []
    for where, logits in _logits(subject):
        for name, labels in integers:
            for shift in (0, 1, 2):
                pair = _paired(logits, labels.long(), shift)
                if pair is None or not bool((pair[1] != IGNORE).any()):
                    continue
                rows, targets = pair
                valid = targets[(targets != IGNORE)]
                if int(valid.min()) < 0 or int(valid.max()) >= rows.shape[-1]:
                    continue
                value = float(cross_entropy(rows, targets, ignore_index=IGNORE))
                total = float(cross_entropy(rows, targets, ignore_index=IGNORE, reduction="sum"))
                gap = min(abs(each - run.loss) for each in (value, total)) / max(abs(run.loss), 1e-3)
                found.append((gap, Scored(rows, targets, name, shift, where, value)))
    found = sorted((each for each in found if each[0] <= NEAR), key=lambda each: each[0])
    if not found:
        raise NotApplicable("the loss is no cross-entropy of the outputs and labels of the batch")
    return found[0][1]


def _whole(tensor: Any) -> bool:
    return not (tensor.is_complex() or str(tensor.dtype) == "torch.bool")


def _paired(logits: Any, labels: Any, shift: int) -> tuple[Any, Any] | None:
    if logits.ndim == 3 and labels.ndim == 2 and logits.shape[0] == labels.shape[0]:
        count = min(logits.shape[1], labels.shape[1] - shift)
        if count < 1:
            return None
        logits, labels = logits[:, :count], labels[:, shift : shift + count]
    elif shift or not (labels.shape == logits.shape[:-1] or (logits.ndim == 2 and labels.numel() == len(logits))):
        return None
    return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)


def labels(subject: Subject) -> Check:
    """Labels in range, some scored, none of padding, and logits where logits are expected."""
    run, name = subject.first(), "labels"
    named = [(key, t) for key, t in tensors(run.batch) if ("label" in key or "target" in key) and _whole(t) and t.ndim]
    for key, tensor in named:
        if tensor.numel() and not bool((tensor != IGNORE).any()) and not tensor.is_floating_point():
            return Check(
                name, f"all {tensor.numel()} of {key} are {IGNORE}", "some are scored", FAIL, "every label is masked"
            )
    if subject.outputs_are_probabilities():
        found = scored(subject)
        advice = "cross_entropy takes logits and makes the softmax itself: leave the model's softmax out"
        text = f"{found.outputs or 'the output'} has rows that sum to 1, and the loss makes a softmax of them again"
        return Check(name, text, "logits", FAIL, advice)
    found = scored(subject)
    valid = found.labels[found.labels != IGNORE]
    masked = 1 - len(valid) / max(1, found.labels.numel())
    kinds = valid.unique().numel()
    text = f"{len(valid)} scored ({masked:.0%} masked), {kinds} different, of {found.logits.shape[-1]}"
    if len(valid) >= 16 and kinds == 1:
        return Check(
            name, text, "more than one class", WARN, "all labels of the batch are the same: are they read at all?"
        )
    padding = _padding_scored(run.batch)
    if padding:
        advice = f"labels of padding must be {IGNORE}: labels.masked_fill(attention_mask == 0, {IGNORE})"
        said = f"{padding} labels at padding are scored, of {len(valid)}"
        return Check(name, said, "at most one a row, its end", WARN, advice)
    return Check(name, text, "in range, some scored", OK)


def _padding_scored(batch: Any) -> int:
    """How many labels are scored where the attention mask of the same shape is 0, each of them the token of the ids
    there; 0 where every row has one at most."""
    parts = {key.rpartition(".")[2]: tensor for key, tensor in tensors(batch)}
    mask, ids, marked = (parts.get(key) for key in ("attention_mask", "input_ids", "labels"))
    if mask is None or ids is None or marked is None or not mask.shape == ids.shape == marked.shape or mask.ndim != 2:
        return 0
    scored_there = (mask == 0) & (marked != IGNORE)
    if not bool((ids == marked)[scored_there].all()):
        return 0
    rows = scored_there.sum(1)
    return int(rows.sum()) if int(rows.max()) > 1 else 0


def next_token(subject: Subject) -> Check:
    """Of a language model: it is scored on the token after, neither on the one it sees nor on the one after next."""
    found, ids = scored(subject), subject.ids()
    if found.labels.numel() < 4:
        raise NotApplicable("fewer than four labels are scored")
    batch, length = ids.shape
    if found.labels.numel() % batch or not length - 2 <= found.labels.numel() // batch <= length:
        raise NotApplicable("labels are not one a token")
    inner = found.labels.reshape(batch, -1)
    used = inner.shape[1]
    offset = _offset(ids, inner, used)
    name, expected = "next token", "the token after"
    if offset == 0:
        if _sees_ahead(subject):
            raise NotApplicable("labels are the tokens themselves, and the model sees all of them: it reconstructs")
        advice = "shift: logits[:, :-1] against ids[:, 1:]; a model that sees its own label learns to copy it"
        return Check(name, "each token is scored against itself", expected, FAIL, advice)
    if offset == 2:
        advice = "labels were shifted in the data and are shifted again in the loss: do it once"
        return Check(name, "the token after next is scored", expected, FAIL, advice)
    if offset is None:
        raise NotApplicable("labels are not the tokens shifted")
    return Check(name, "the token after is scored", expected, OK)


def _offset(ids: Any, scored_labels: Any, used: int) -> int | None:
    """By how much the labels are ahead of the ids that they stand beside; None where they are other tokens."""
    for offset in (1, 0, 2):
        width = min(used, ids.shape[1] - offset)
        if width < 2:
            continue
        ours, theirs = ids[:, offset : offset + width], scored_labels[:, :width]
        valid = theirs != IGNORE
        if int(valid.sum()) >= 3 and bool((ours == theirs)[valid].all()) and ids.unique().numel() > 2:
            return offset
    return None


def predicts_next(subject: Subject) -> bool:
    try:
        return next_token(subject).verdict == OK or "after next" in next_token(subject).measured
    except NotApplicable:
        return False


def _sees_ahead(subject: Subject) -> bool:
    try:
        return ahead(subject) > 0
    except NotApplicable:
        return True


def initial_loss(subject: Subject) -> Check:
    """A cross-entropy begins near ln V, and is never far above it."""
    found = scored(subject)
    count = found.logits.shape[-1]
    uniform = math.log(count)
    text, expected = f"{found.loss:.4g}", f"at most {TOO_HIGH:g} ln {count} = {TOO_HIGH * uniform:.4g}"
    if found.loss > TOO_HIGH * uniform:
        advice = "worse than a uniform guess: the initialisation of the head, the scale of the inputs, or the labels"
        return Check("initial loss", text, expected, WARN, advice)
    return Check("initial loss", text, expected, OK)
