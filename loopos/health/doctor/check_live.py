"""What the doctor asks of the trainer: that every setting is used, and that an update is made of all its parts.

A setting is live when another value gives other weights; one that is ignored gives the same bits. The runs are a few
updates of a small sibling, so they cost nothing beside the run they are for; an object that has no sibling is trained
itself and put back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from loopos.data.batches import IGNORE
from loopos.optim.training import settings_of

from .check_forward import difference
from .patient import Batches, NotApplicable, Patient
from .report import FAIL, OK, Check, skipped

STEPS = 3
CLIP = 1e-2  # far below any gradient's norm
ROWS = 2
RATES = (1e-4, 1e-2)
_ADVICE = "the setting is not used: look where the trainer drops it"
Weights = dict[str, np.ndarray]


def distance(one: Weights, two: Weights) -> float:
    """The Euclidean distance of two sets of weights."""
    return math.sqrt(sum(float(np.sum((one[key].astype(np.float64) - two[key]) ** 2)) for key in one))


class _TrialRuns:
    """Short trainings that all start from the same weights, on a stream of random tokens."""

    def __init__(self, patient: Patient):
        if not (patient.plain or patient.own_trainer):
            raise NotApplicable("the model is trained by hand here; pass trainer= to have its settings tried")
        self.patient = patient
        low, high = RATES  # beyond them other checks speak: of updates that are lost, or that explode
        self.rate = min(max(patient.settings["learning_rate"], low), high)
        norm = patient.settings["max_grad_norm"]
        self.norm = norm if norm is None else max(norm, CLIP)  # so too of gradients that are clipped to nothing
        try:
            config = patient.sibling_config
            patient.sibling("float32")
        except NotApplicable:
            self.stream = None
        else:
            length = 12 * config.context_length + 1
            self.stream = np.random.default_rng(3).integers(0, config.vocab_size, length)

    def weights(self, dropout: float = 0.0, **changed: Any) -> tuple[Weights, Weights]:
        """(before, after) some updates with the patient's settings but for ``changed``."""
        settings = {"batch_size": ROWS, "seq_len": None, "learning_rate": self.rate, "max_grad_norm": self.norm}
        settings |= changed
        if self.stream is None:
            with self.patient.restored() as before:
                self.patient.take_steps(self.patient.model, Batches([[self.patient.batch]]), STEPS, **settings)
                views = self.patient.model.parameters()
                return before, {key: views[key].copy() for key in before}
        model = self.patient.sibling("float32", dropout=dropout)
        before = {key: view.copy() for key, view in model.parameters().items()}
        self.patient.take_steps(model, self.stream, STEPS, **settings)
        return before, model.parameters()


def check_settings(patient: Patient) -> Iterator[Check]:
    """One line a setting."""
    bench, asked = _TrialRuns(patient), patient.settings
    before, base = bench.weights()
    _, repeated = bench.weights()
    moved, apart = distance(before, base), distance(base, repeated)
    name = "same settings, same bits"
    measured = f"two runs end {apart:.1e} apart after a way of {moved:.2g}"
    if apart or not moved:
        advice = (
            "the trainer draws from a generator nobody seeds"
            if apart
            else "the trainer does not change a single weight"
        )
        yield Check(name, measured, "0 after a way above 0", FAIL, advice)
        return
    yield Check(name, measured, "0 after a way above 0", OK)

    start, still = bench.weights(learning_rate=0.0)
    changed = sum(int(np.count_nonzero(start[key] != still[key])) for key in start)
    measured = f"{changed} weights change in {STEPS} updates"
    advice = "something moves weights that is no update: decay, rounding, or a rate that is not the one asked for"
    yield Check("learning rate 0", measured, "none", FAIL if changed else OK, advice if changed else "")

    decay = asked["weight_decay"]
    tries: list[tuple[str, Any, dict[str, Any]]] = [
        ("learning_rate", f"{bench.rate:g} and {2 * bench.rate:g}", {"learning_rate": 2 * bench.rate}),
        ("weight_decay", f"{decay:g} and {decay + 0.5:g}", {"weight_decay": decay + 0.5}),
        ("warmup_steps", f"0 and {STEPS}", {"warmup_steps": STEPS}),
    ]
    if "betas" in settings_of(asked["optimizer"]):
        first, second = asked["betas"]
        other = (first / 2 + 0.05, second)
        tries.append(("betas", f"{first:g} and {other[0]:g}", {"betas": other}))
    for setting, values, change in tries:
        yield _live(setting, values, base, bench.weights(**change)[1], moved)
    _, free = bench.weights(max_grad_norm=None)
    yield _live("max_grad_norm", f"none and {CLIP:g}", free, bench.weights(max_grad_norm=CLIP)[1], moved)
    if bench.stream is None:
        yield skipped("seed is live", "the data give their own batches, and no sibling can be built for others")
        yield skipped("dropout is live", "no sibling can be built with another dropout")
        return
    seed = asked["seed"]
    yield _live("seed", f"{seed} and {seed ^ 1}", base, bench.weights(seed=seed ^ 1)[1], moved)
    if patient.own_trainer and not getattr(patient.config, "dropout", 0):  # a loop by hand need not have what is off
        yield skipped("dropout is live", "the model's dropout is 0")
        return
    yield _live("dropout", "0 and 0.2", base, bench.weights(dropout=0.2)[1], moved)


def _live(setting: str, values: str, one: Weights, two: Weights, moved: float) -> Check:
    apart = distance(one, two)
    measured = f"runs with {values} end {apart:.1e} apart ({apart / moved:.1%} of the way)"
    dead = apart == 0
    return Check(f"{setting} is live", measured, "not 0", FAIL if dead else OK, _ADVICE if dead else "")


def accumulation(patient: Patient) -> Check:
    """Two micro-batches with unlike numbers of scored targets make the update of the batch that holds both."""
    if not (patient.plain or patient.own_trainer):
        raise NotApplicable("the model is trained by hand here; pass trainer= to have it tried")
    ids, targets = patient.sibling_batch(rows=4)
    targets = targets.copy()
    targets[3:, 2:] = IGNORE
    plain = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "max_grad_norm": None}
    after = {}
    for count in (1, 2):
        model = patient.sibling(dropout=0.0)
        if getattr(model, "dtype", "float64") != "float64":
            raise NotApplicable("no float64 sibling can be built")
        before = {key: view.copy() for key, view in model.parameters().items()}
        micros = list(zip(np.split(ids, count), np.split(targets, count), strict=True))
        patient.take_steps(model, Batches([micros]), 1, grad_accum=count, **plain)
        after[count] = {key: view - before[key] for key, view in model.parameters().items()}
    error = difference((1.0, after[1]), (1.0, after[2]))
    good = error <= 1e-10 and any(part.any() for part in after[1].values())
    measured = f"one batch of 4 rows and 2 micro-batches of 2, unevenly masked, differ by {error:.1e}"
    advice = "gradients must be summed and divided by all scored targets; a mean of means weighs masked rows wrongly"
    if not any(part.any() for part in after[1].values()):
        advice = "the update changes no weight: does the optimizer's step come before the backward pass?"
    return Check("accumulation", measured, "at most 1e-10 of the update", OK if good else FAIL, "" if good else advice)


def logged_loss(patient: Patient) -> Check:
    """The first loss that the trainer reports is the model's loss on the first batch."""
    if not (patient.plain or patient.own_trainer):
        raise NotApplicable("the model is trained by hand here; pass trainer= to have it tried")
    model, pair = patient.sibling(dropout=0.0), patient.sibling_batch()
    expected = float(model.loss(*pair))
    result = patient.take_steps(model, Batches([[pair]]), 1)
    history = getattr(result, "history", None)
    if not history or "loss" not in history[0]:
        raise NotApplicable("the trainer returns no history")
    logged = float(history[0]["loss"])
    good = abs(logged - expected) <= 1e-10 * abs(expected)
    measured, wanted = f"{logged:.9g}", f"{expected:.9g}, the model's own before the update"
    advice = "what is logged is not the loss: filtered, averaged over what is not scored, or taken after the update"
    return Check("logged loss", measured, wanted, OK if good else FAIL, "" if good else advice)
