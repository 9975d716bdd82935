"""What the doctor asks of a run that learns of a teacher, of preferences or of classes: that its first loss is the one
to be expected, that there is something to learn, and that nobody moves the teacher."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np

from loopos.adapters.parts import B, Part
from loopos.data.batches import IGNORE
from loopos.model import Model
from loopos.trainable import trainable_of

from . import check_forward
from .check_data import Pairs
from .patient import IN_PLACE, Batches, NotApplicable, Patient, listed
from .report import FAIL, OK, WARN, Check
from .task import Task

NOTHING = 1e-6  # a loss of this is that of two that are the same
ASTRAY = {"kl": 0.1, "normalized_mse": 0.01, "cosine": 0.005}  # 0.1 nats or of the states' size: no usual start
ONE_SIDED = 0.95  # a larger share of one class leaves hardly anything to tell apart


def initial_loss(patient: Patient) -> Check:
    """Of the run's own objective."""
    if patient.task is None:
        return check_forward.initial_loss(patient)
    if not (patient.batch[1] != IGNORE).any():
        raise NotApplicable("no target counts")
    return _preferences(patient, patient.task) if patient.task.rows == 2 else _distilled(patient, patient.task)


def _preferences(patient: Patient, task: Task) -> Check:
    """ln 2 where the model is its reference: the margin of every pair is 0."""
    name, loss = "initial loss", patient.loss_and_grads[0]
    apart = task.score(patient.batch)[1]["reward_margin"]
    measured, expected = (
        f"{loss:.6f} nats, the mean margin of a pair is {apart:.3g}",
        "ln 2 = 0.693147 and margins of 0",
    )
    if abs(loss - math.log(2)) <= NOTHING and abs(apart) <= NOTHING:
        return Check(name, measured, expected, OK)
    if task.teacher is not None:
        advice = (
            "the reference answers otherwise than the model that training begins with: usually it is a copy of that, "
            "or the model without its adapter (no reference given); else the first updates undo what sets them apart"
        )
        return Check(name, measured, expected, WARN, advice)
    if _adds_nothing(patient.model):
        advice = "the adapter adds nothing yet, and still the reference answers otherwise: it is not the base"
        return Check(name, measured, expected, FAIL, advice)
    return Check(name, measured, f"{expected}, or another where the adapter was trained already", OK)


def _distilled(patient: Patient, task: Task) -> Check:
    """0 where student and teacher are the same; of another teacher, one that knows its targets better than chance."""
    name, how = "initial loss", task.settings.distill
    ours = float(patient.model.loss(*patient.batch))
    apart = (patient.loss_and_grads[0] - how.cross_entropy * ours) / how.weight
    measured = f"{how.loss} {apart:.4g} between student and teacher"
    if task.teacher is not None:
        return _of_another(patient, task.teacher, ours, measured)
    expected = "0 where the adapter adds nothing, little where it begins"
    if apart > ASTRAY.get(how.loss, math.inf):  # mse has no scale to go by
        advice = (
            "the student is far from its teacher before anything is learned: a gate that is not 1 at the start, a "
            "large added part (nothing is wrong where this adapter was trained already)"
        )
        return Check(name, measured, expected, WARN, advice)
    if how.cross_entropy > 0:
        return Check(name, measured, expected, OK)
    if abs(apart) <= NOTHING and _adds_nothing(patient.model):
        now = "the student is its teacher: loss and gradients are 0, and no update moves anything"
    else:
        now = "the teacher is the model without the adapter, so the least loss is that of an adapter which adds nothing"
    advice = f"{now}; cross_entropy beside it (--distill-cross-entropy 1), or another teacher, is something to learn"
    return Check(name, measured, expected, WARN, advice)


def _of_another(patient: Patient, teacher: Model, ours: float, measured: str) -> Check:
    theirs, chance = float(teacher.loss(*patient.batch)), math.log(patient.logits.shape[-1])
    measured += f"; a target costs the teacher {theirs:.4f} nats, the student {ours:.4f}"
    expected = f"a teacher that does better than chance, ln {patient.logits.shape[-1]} = {chance:.4f}"
    if not theirs < chance:
        advice = "the teacher knows nothing of these data: is it trained, and of the same tokenizer?"
        return Check("initial loss", measured, expected, WARN, advice)
    return Check("initial loss", measured, expected, OK)


def _adds_nothing(model: Model) -> bool:
    """Whether every B of a LoRA is 0, as it is at first."""
    parts = [each for each in getattr(model, "adapter_parts", ()) if isinstance(each, Part)]
    views = model.parameters()
    return bool(parts) and not any(views[f"{each.name}.{B}"].any() for each in parts)


def teacher(patient: Patient) -> Iterator[Check]:
    """An update moves the student and no bit of the teacher. Nothing of a run without another Model as the teacher: of
    the model without its adapter the check of the base says it."""
    other = None if patient.task is None else patient.task.teacher
    if other is None:
        return
    name, expected = "teacher", "no bit moves while the student learns"
    weights = other.config.num_parameters()
    if patient.quick and weights > IN_PLACE:
        raise NotApplicable(f"{weights} weights are left to the full round")
    before = _digests(other)
    with patient.restored():
        patient.take_steps(patient.model, Batches([[patient.batch]]), 1)
    moved = [key for key, digest in _digests(other).items() if digest != before[key]]
    if moved:
        advice = "teacher and student share these: what is learned changes what is to be learned; give copies"
        yield Check(name, f"{len(moved)} of {len(before)} tensors move: {listed(moved)}", expected, FAIL, advice)
        return
    yield Check(name, f"{len(before)} tensors keep their bits", expected, OK)


def _digests(model: Model) -> dict[str, bytes]:
    views = model.parameters()
    return {name: hashlib.sha256(np.ascontiguousarray(view)).digest() for name, view in views.items()}


def regularization(patient: Patient) -> Iterator[Check]:
    """What regularization_lambda adds to the loss, beside the loss. Nothing of a run without it."""
    factor = patient.regularization
    if factor == 0:
        return
    name, expected = "regularization", "less than the loss"
    squares = sum(float(np.sum(np.square(view, dtype=np.float64))) for view in trainable_of(patient.model).values())
    loss, added = float(patient.loss_and_grads[0]), factor * squares
    measured = f"{factor:g} x the sum of {squares:.4g} squares adds {added:.4g} to a loss of {loss:.4g}"
    if added > loss:
        advice = (
            "a loss that falls tells of the weights that shrink, not of what is learned: go by `regularization` in the "
            "log, which is to be subtracted, and by eval_loss; or a smaller regularization_lambda"
        )
        yield Check(name, measured, expected, WARN, advice)
        return
    yield Check(name, measured, expected, OK)


def answers(pairs: Pairs) -> Check:
    """The chosen and the rejected answer of a pair differ; rows 2i and 2i + 1 of a batch are one."""
    name, expected = "answers", "two different ones in every pair"
    same, lengths, count = 0, np.zeros(2), 0
    for ids, targets, *_ in pairs:
        for at in range(0, len(ids) - 1, 2):
            two = slice(at, at + 2)
            same += (ids[at] == ids[at + 1]).all() and (targets[at] == targets[at + 1]).all()
            lengths += (targets[two] != IGNORE).sum(1)
            count += 1
    chosen, rejected = lengths / max(1, count)
    measured = f"{same} of {count} pairs have one answer twice; {chosen:.4g} tokens chosen, {rejected:.4g} rejected"
    if same:
        advice = "such a pair has a loss of ln 2 whatever is learned: look at how the two columns were made"
        return Check(name, measured, expected, FAIL if same == count else WARN, advice)
    return Check(name, measured, expected, OK)


def classes(pairs: Pairs, labels: tuple[str, ...], things: str = "texts") -> Check:
    """How often each class comes in the batches that were looked at. things: what has a class."""
    name, expected = "classes", f"none in more than {ONE_SIDED:.0%} of the {things}"
    found = np.concatenate([targets[targets != IGNORE] for _, targets, *_ in pairs])
    counts = np.bincount(found.astype(np.int64), minlength=len(labels))
    most = int(counts.argmax())
    share = counts[most] / max(1, counts.sum())
    measured = f"{len(labels)} classes; of {counts.sum()} {things} {share:.1%} are {labels[most]!r}, the most frequent"
    if share > ONE_SIDED:
        advice = "saying always the same is right as often: go by the confusion matrix, and balance the data"
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)
