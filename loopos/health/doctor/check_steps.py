"""What the doctor asks of several updates in a row: that each is made of its own batch and of its own gradient.

One update says nothing of that: a loop that never sets its gradients to zero, or takes the same batch for ever, makes
a first update like any other. Three updates of a small sibling in float64 are compared with the same three done right,
and where they differ with the same three done wrong in each way that is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .check_live import CLIP, Weights
from .patient import Batches, NotApplicable, Patient, steps_by_hand
from .report import FAIL, OK, WARN, Check, skipped

STEPS = 3
RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
SAME = 1e-6  # of the way; where a rule puts its eps moves the last digits
CLIPPED_SAME = 1e-3  # clipping may have an eps of its own beside the norm


class Summing:
    """A model whose gradients were never set to zero: each is the sum of all so far."""

    def __init__(self, model: Any):
        self._model, self._sum = model, {}
        self.parameters = model.parameters

    def loss_and_grads(self, ids: np.ndarray, targets: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        loss, gradients = self._model.loss_and_grads(ids, targets)
        self._sum = {name: self._sum.get(name, 0) + gradient for name, gradient in gradients.items()}
        return loss, {name: total.copy() for name, total in self._sum.items()}


class Before:
    """A model whose gradients are those of the batch before; the first time its own."""

    def __init__(self, model: Any):
        self._model, self._last = model, None
        self.parameters = model.parameters

    def loss_and_grads(self, ids: np.ndarray, targets: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        loss, gradients = self._model.loss_and_grads(ids, targets)
        last, self._last = self._last or gradients, {name: each.copy() for name, each in gradients.items()}
        return loss, {name: each.copy() for name, each in last.items()}


class Once:
    """A model whose gradients are those of its first batch for ever."""

    def __init__(self, model: Any):
        self._model, self._first = model, None
        self.parameters = model.parameters

    def loss_and_grads(self, ids: np.ndarray, targets: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        if self._first is None:
            self._first = self._model.loss_and_grads(ids, targets)
        return self._first[0], {name: gradient.copy() for name, gradient in self._first[1].items()}


def check_steps(patient: Patient) -> Check:
    """Three updates on three batches, against the same by hand, by every rule whose first update the trainer makes."""
    name, expected = "several updates", f"within {SAME:g} of the way of the same by hand"
    if not (patient.plain or patient.own_trainer):
        raise NotApplicable("the model is trained by hand here; pass trainer= to have it tried")
    if getattr(patient.sibling(dropout=0.0), "dtype", "float64") != "float64":
        raise NotApplicable("no float64 sibling can be built")
    batches = [[patient.sibling_batch(seed=20 + step)] for step in range(STEPS)]
    asked = patient.settings["optimizer"]
    known: list[Check] = []
    for rule in dict.fromkeys(("sgd", asked if asked in RATES else "adamw", "adamw", "adam")):
        tried = _Tried(patient, rule)
        first = tried.trained(batches[:1])
        if tried.apart(first, tried.by_hand(batches, 1)) <= SAME:
            known.append(_compared(tried, batches, name, expected))
        elif (found := _first_update(tried, first, batches, name, expected)) is not None:
            known.append(found)
        if known and (known[-1].verdict != OK or rule == "adamw"):
            return known[-1]
    if not known:
        return skipped(name, "its first update is that of no optimizer here: nothing to compare with")
    return known[-1]


def _first_update(tried: _Tried, first: Weights, batches: list, name: str, expected: str) -> Check | None:
    """What can be said of a first update that is not the rule's: it is nothing, or the same times a number."""
    times = tried.times(first, tried.by_hand(batches, 1))
    if times == 0:
        measured = "the first update changes no weight"
        return Check(name, measured, expected, FAIL, "does the optimizer's step come before the backward pass?")
    if times is None:
        return None
    measured = f"the first update ({tried.rule}) is {times:.6g} times that of the same by hand"
    advice = "it goes up the gradient: a sign is wrong"
    if times > 0:
        advice = "the rate is not learning_rate, or the loss is not the mean over the targets that are scored"
    return Check(name, measured, expected, FAIL, advice)


def _compared(tried: _Tried, batches: list, name: str, expected: str) -> Check:
    """All updates of a trainer whose first one is that of the rule."""
    theirs, right = tried.trained(batches), tried.by_hand(batches, STEPS)
    apart = tried.apart(theirs, right)
    measured = f"{STEPS} updates ({tried.rule}) end {apart:.1e} of their way from the same by hand"
    if apart <= SAME:
        return _clipped(tried, batches) or Check(name, measured, expected, OK)
    wrongs = {
        "gradients are never set to zero: each update has those of all updates before it in it": (Summing, batches),
        "every update is made of the first batch: look at how the loop asks for the next one": (None, batches[:1]),
        "every update has the first gradient: compute it anew in each step": (Once, batches),
        "every update has the gradient of the batch before: step after the backward pass of its own batch": (
            Before,
            batches,
        ),
    }
    for advice, (wrapper, given) in wrongs.items():
        if tried.apart(theirs, tried.by_hand(given, STEPS, wrapper)) <= SAME:
            return Check(name, measured, expected, FAIL, advice)
    if tried.apart(theirs, tried.by_hand(batches, 1)) <= SAME:
        return Check(name, measured, expected, FAIL, "the updates after the first change nothing")
    rule = tried.rule
    advice = f"the first update is that of {rule}, the later ones are not: momentum, or an update that is left out?"
    if rule != "sgd":
        advice = f"the first update is that of {rule}, the later ones are not: are its moments kept between updates?"
    return Check(name, measured, expected, WARN, advice)


def _clipped(tried: _Tried, batches: list) -> Check | None:
    """Clipping scales all gradients by one factor; None where it does, and where nothing is clipped."""
    free, theirs = (tried.trained(batches[:1], max_grad_norm=norm) for norm in (None, CLIP))
    if tried.rule != "sgd" or tried.apart(theirs, free) == 0:  # the first step of Adam does not know of scales
        return None
    right = tried.by_hand(batches, 1, max_grad_norm=CLIP)
    apart = tried.apart(theirs, right)
    if apart <= CLIPPED_SAME:
        return None
    measured = f"an update clipped to {CLIP:g} ends {apart:.1e} of its way from the same by hand"
    advice = "max_grad_norm is the largest norm of all gradients together, and one factor scales them all"
    return Check("several updates", measured, f"within {CLIPPED_SAME:g}", WARN, advice)


class _Tried:
    """Trainings of the sibling by one rule, all from the same weights."""

    def __init__(self, patient: Patient, rule: str):
        self._patient, self.rule = patient, rule
        self._settings = {
            "optimizer": rule,
            "learning_rate": RATES[rule],
            "weight_decay": 0.0,
            "max_grad_norm": None,
            "grad_accum": 1,
        }
        self._before = {name: view.copy() for name, view in patient.sibling(dropout=0.0).parameters().items()}

    def trained(self, batches: list, **changed: Any) -> Weights:
        model = self._patient.sibling(dropout=0.0)
        self._patient.take_steps(model, Batches(batches), len(batches), **(self._settings | changed))
        return model.parameters()

    def by_hand(self, batches: list, steps: int, wrapper: Any = None, **changed: Any) -> Weights:
        """wrapper: of the model; makes its gradients wrong."""
        model = self._patient.sibling(dropout=0.0)
        settings = self._patient.settings | self._settings | {"max_steps": steps} | changed
        steps_by_hand(model if wrapper is None else wrapper(model), Batches(batches), **settings)
        return model.parameters()

    def apart(self, one: Weights, two: Weights) -> float:
        """The distance of two sets of weights, of the way that the second has gone."""
        way = sum(float(np.sum((two[name] - before) ** 2)) for name, before in self._before.items())
        gap = sum(float(np.sum((one[name] - two[name]) ** 2)) for name in two)
        return float(np.sqrt(gap / way)) if way > 0 else float("inf")

    def times(self, one: Weights, two: Weights) -> float | None:
        """The number k where the way of ``one`` is k times that of ``two``; None where it is another way."""
        ways = [{name: each[name] - before for name, before in self._before.items()} for each in (one, two)]
        square = sum(float(np.sum(way**2)) for way in ways[1].values())
        k = sum(float(np.sum(ways[0][name] * ways[1][name])) for name in ways[1]) / square if square > 0 else 0.0
        left = sum(float(np.sum((ways[0][name] - k * ways[1][name]) ** 2)) for name in ways[1])
        return k if left <= (SAME * k) ** 2 * square else None
