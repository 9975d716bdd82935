"""What the doctor asks of an update: that it moves every parameter by a sensible amount, and can learn a batch."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np

from loopos.data.batches import IGNORE
from loopos.errors import NonFiniteError
from loopos.trainable import trainable_of

from .check_gradient import shown, silent_parts
from .patient import IN_PLACE, Batches, NotApplicable, Patient, listed, parts_of, rms
from .report import FAIL, OK, WARN, Check

Arrays = dict[str, np.ndarray]
STEPS = 3
RATIO_LOW, RATIO_HIGH, RATIO_ABSURD = 1e-6, 0.3, 1.0  # size of an update over that of its weight
FAINT = 1e-6  # of the largest gradient; what is smaller is rounding where there should be none
LEAVING = 0.05  # of the typical size of a matrix; what is smaller is just leaving zero
LARGER = 1e3  # times the rate, at which nothing is lost in rounding
STUCK = 0.5  # share of elements with a gradient whose bits did not change
OVERFIT_TOKENS, OVERFIT_STEPS = 24, 40
OVERFIT_RATES = (1.0, 0.5, 0.25)  # of the rate, in turn, until the batch is learned or the turns are over
OVERFIT_TURNS = (3, 15)  # at least, and at most where the model is so small that they cost nothing
TOO_SMALL = 32  # a narrower model may lack the room for a batch
OVERFIT_FLOPS = 1e11  # of all its steps; a larger model is tried as its small sibling
LEARNED, HARDLY = 0.05, 0.3  # nats left above the least possible; share of the way down


def moves(patient: Patient) -> Check:
    """A few updates with the run's own optimizer and peak rate, without decay: what moves, moves by its gradient."""
    name, expected = "updates", f"all move, by {RATIO_LOW:g} to {RATIO_HIGH:g} of their size"
    if patient.settings["learning_rate"] == 0:
        raise NotApplicable("learning_rate is 0, so nothing is to move")
    if patient.quick and patient.size > IN_PLACE:
        raise NotApplicable(f"{patient.size} weights are left to the full round")
    if not (patient.batch[1] != IGNORE).any():
        raise NotApplicable("no target counts")
    if patient.at_rest:
        raise NotApplicable("every gradient is 0, see the initial loss")
    before, after = _updated(patient)
    still, stuck = _unmoved(patient, before, after)
    ratios = update_ratios(before, after)
    if not ratios:
        raise NotApplicable("every matrix is zero")
    low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    measured = f"an update is {ratios[low]:.1e} ({low}) to {ratios[high]:.1e} ({high}) of its tensor"
    if still:
        advice = "they have a gradient and no update: are they in the optimizer's list, is the rate used?"
        return Check(name, f"{measured}; no bit moves in {listed(still)}", expected, FAIL, advice)
    if stuck:
        advice = _why_stuck(patient, len(stuck))
        return Check(name, f"{measured}; most elements stay in {listed(stuck)}", expected, WARN, advice)
    moved = {key: ratio for key, ratio in ratios.items() if ratio > 0}
    if ratios[high] > (RATIO_ABSURD if patient.settings["warmup_steps"] else RATIO_HIGH):
        absurd = ratios[high] > RATIO_ABSURD
        advice = "one update replaces what is there: a smaller learning_rate" + ("" if absurd else ", or warm-up steps")
        return Check(name, measured, expected, FAIL if absurd else WARN, advice)
    if moved and min(moved.values()) < RATIO_LOW:
        return Check(name, measured, expected, WARN, "hardly anything is learned so: a larger learning_rate")
    return Check(name, measured, expected, OK)


def _updated(patient: Patient, **changed: object) -> tuple[Arrays, Arrays]:
    """The trainable parameters before and after some updates on one batch."""
    with patient.restored() as before:
        patient.take_steps(patient.model, Batches([[patient.batch]]), STEPS, weight_decay=0.0, **changed)
        after = {key: view.copy() for key, view in trainable_of(patient.model).items()}
        return {key: before[key] for key in after}, after


def _unmoved(patient: Patient, before: Arrays, after: Arrays) -> tuple[list[str], list[str]]:
    """(parts of which no bit moved, parts of which most elements did not), of those that have a gradient."""
    silent = set(silent_parts(patient.config, patient.loss_and_grads[1])[0])
    farthest = max(float(np.max(np.abs(after[key] - old), initial=0.0)) for key, old in before.items())
    loudest = max(float(np.max(np.abs(g), initial=0.0)) for g in patient.loss_and_grads[1].values())
    still, stuck = [], []
    for key, old in before.items():
        gradient = patient.loss_and_grads[1][key]
        olds, news, slopes = (parts_of(patient.config, key, array) for array in (old, after[key], gradient))
        for part in olds:
            if olds[part].size == 0 or (key, part) in silent or np.max(np.abs(slopes[part])) <= FAINT * loudest:
                continue
            changed = olds[part] != news[part]
            felt = not farthest or float(np.min(np.spacing(np.abs(olds[part])))) / 2 < farthest
            if felt and not changed.any():
                still.append(shown((key, part)))
            elif np.count_nonzero(~changed & (slopes[part] != 0)) > STUCK * np.count_nonzero(slopes[part]):
                stuck.append(shown((key, part)))
    return still, stuck


def _why_stuck(patient: Patient, count: int) -> str:
    """What a larger rate does not move either had no gradient: dropout took it. Anything else was lost in rounding."""
    lost = "updates of less than half a unit in the last place are lost: a larger rate, or float64 weights"
    dropout = getattr(patient.config, "dropout", 0.0)
    if dropout <= 0:
        return lost
    try:
        before, after = _updated(patient, learning_rate=min(1.0, LARGER * patient.settings["learning_rate"]))
    except NonFiniteError:
        return f"a dropout of {dropout:g}, or {lost}"
    still, stuck = _unmoved(patient, before, after)
    if len(still) + len(stuck) < count:
        return lost
    return (
        f"a dropout of {dropout:g} leaves most of their elements without a gradient in {STEPS} updates: a smaller one"
    )


def update_ratios(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> dict[str, float]:
    """rms of an update over rms of its tensor, for the matrices that have a size: not for biases, nor for what is just
    leaving zero, where any update is large."""
    sizes = {key: rms(old) for key, old in before.items() if old.ndim >= 2 and old.size}
    typical = float(np.median(list(sizes.values()))) if sizes else 0.0
    moved = {key: rms(after[key].astype(np.float64) - before[key]) / STEPS for key in sizes}
    return {key: moved[key] / size for key, size in sizes.items() if size > LEAVING * typical}


def least_loss(ids: np.ndarray, targets: np.ndarray, *, positions: bool = True) -> float:
    """The mean loss of a model that knows this batch by heart: not 0 where equal beginnings go on differently.

    positions False: of a model with rotary positions, which cannot count how often one token was repeated from the
    start: attention over equal values is that value."""
    seen: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for row, labels in zip(ids.tolist(), targets.tolist(), strict=True):
        for t, label in enumerate(labels):
            if label != IGNORE:
                beginning = tuple(row[: t + 1])
                alike = not positions and len(set(beginning)) == 1
                seen[beginning[:1] if alike else beginning][label] += 1
    total = sum(n * math.log(sum(counts.values()) / n) for counts in seen.values() for n in counts.values())
    return total / max(1, sum(sum(counts.values()) for counts in seen.values()))


def overfit(patient: Patient) -> Check:
    """A few tokens can be learned by heart in a few dozen updates. What cannot do that learns nothing else."""
    name = "overfit a batch"
    ids, targets = patient.cut(*patient.batch, OVERFIT_TOKENS)
    if not (targets != IGNORE).any():
        raise NotApplicable("no target counts")
    if patient.task is not None:
        raise NotApplicable("a teacher's answers, and preferences, are not learned to the end in a few updates")
    if getattr(patient.model, "adapter", None) is not None:
        raise NotApplicable("the few numbers of an adapter need not be enough for it")
    model = patient.model
    few, many = OVERFIT_TURNS
    turns = int(min(many, OVERFIT_FLOPS / (6 * max(1, patient.size) * ids.size * OVERFIT_STEPS)))
    narrow = getattr(patient.config, "d_model", TOO_SMALL) < TOO_SMALL
    if turns < few or narrow or getattr(patient.config, "dropout", 0) > 0:  # dropout would only be in the way
        model, turns = patient.sibling("float32", warm=False, dropout=0.0), many
        ids, targets = patient.sibling_batch(rows=2)
    config = getattr(model, "config", None)
    least = least_loss(ids, targets, positions=getattr(config, "position", "learned") == "learned")
    first = float(model.loss(ids, targets))
    top_rate = min(1e-2, 0.1 / getattr(config, "d_model", 10))  # wider models want smaller ones
    settings = {"optimizer": "adamw", "weight_decay": 0.0, "betas": (0.9, 0.99), "max_grad_norm": 1.0}
    done, last = 0, first
    with patient.restored(model):
        for turn in range(turns):
            rate = top_rate * OVERFIT_RATES[turn % len(OVERFIT_RATES)]
            patient.take_steps(model, Batches([[(ids, targets)]]), OVERFIT_STEPS, learning_rate=rate, **settings)
            done, last = done + OVERFIT_STEPS, float(model.loss(ids, targets))
            if last <= least + LEARNED:
                break
    who = "the model" if model is patient.model else "a small sibling"
    count = int((targets != IGNORE).sum())
    measured = f"{who} goes from {first:.3f} to {last:.3f} nats on {count} tokens in {done} updates"
    expected = f"at most {least:.3f} + {LEARNED}"
    if last <= least + LEARNED:
        return Check(name, measured, expected, OK)
    advice = "a gradient is missing or wrong, or an update does not do what it says: see the checks of both"
    share = (first - last) / max(first - least, 1e-30)
    return Check(name, measured, expected, WARN if share >= HARDLY else FAIL, advice)
