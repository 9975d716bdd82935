"""The round of the doctor for a network of snapshots: what the pipeline makes of the run's first batch, and of what."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from loopos.covariance import ledger
from loopos.covariance.batches import as_complex
from loopos.covariance.config import CovarianceConfig
from loopos.covariance.network import COMPLEX, CovarianceNetwork
from loopos.covariance.pipeline import STAGES, Covariances
from loopos.run.callbacks import Callback
from loopos.run.kinds import kind_of
from loopos.run.schedules import learning_rate
from loopos.run.settings import TrainSettings
from loopos.training import train

from .report import FAIL, OK, WARN, Check

KINDS = (CovarianceNetwork, CovarianceConfig)
GRADIENT = 1e-5  # relative, of float64 against central differences
STEP = 1e-5


class CovariancePatient:
    """A network, the first batch of its run, and what the pipeline makes of it in training and in evaluation."""

    def __init__(self, model: CovarianceNetwork, data: Any, settings: TrainSettings):
        kind = kind_of(model)
        self.model, self.settings, self.data = model, settings, data
        sources, _ = kind.open(model, data, None, None, settings, False)
        self.batch = sources.train.batch(0, 0)
        self.kind = kind
        self.trained, self.evaluated = self._made(True), self._made(False)

    def _made(self, training: bool) -> Covariances:
        objective, seen = self.kind.objective(self.model, None, self.settings, None), []
        made = objective.result
        objective.result = lambda *given: seen.append(made(*given)) or seen[-1]
        if training:
            self.accumulate(self.model, objective)
        else:
            objective.score(self.model._core, self.batch)
        return seen[0]

    def accumulate(self, model: CovarianceNetwork, objective: Any = None) -> float:
        """A pass of training without dropout: the mean loss; the core then has the gradients."""
        objective = self.kind.objective(model, None, self.settings, None) if objective is None else objective
        rows, sources, given = objective.inputs(self.batch)
        scale = 1 / len(sources)
        objective.keywords(rows, sources, {"scale": scale, **given})
        with warnings.catch_warnings():  # what the ledger tells is a check of its own
            warnings.simplefilter("ignore", RuntimeWarning)
            return model._core.accumulate(rows, sources, scale=scale, **given)[0] * scale


def one_path(p: CovariancePatient) -> Check:
    """Training and evaluation, tensor by tensor."""
    apart = [
        name
        for name in (*STAGES, "truth")
        if not np.array_equal(p.trained.matrices[name], p.evaluated.matrices[name], equal_nan=True)
    ]
    said = f"{', '.join(f'R_{name}' for name in apart)} differ" if apart else "all matrices have the same bits"
    advice = "a scaling is on one of the two paths only; both must be loopos.covariance.pipeline"
    return Check("train and evaluation", said, "the same matrices on both paths", FAIL if apart else OK, advice)


def definite(p: CovariancePatient) -> Check:
    """The smallest eigenvalue of every estimate."""
    values = np.linalg.eigvalsh(p.trained.covariance.astype(np.complex128))
    worst = int(values[:, 0].argmin())
    condition = values[worst, -1] / values[worst, 0]
    said = f"smallest eigenvalue {values[worst, 0]:.3g} (sample {worst}), condition {condition:.3g}"
    bad = values[worst, 0] <= 0
    advice = "prediction='factor' is positive semidefinite by construction; loading adds to all eigenvalues"
    return Check("positive definite", said, "above 0 in every sample", FAIL if bad else OK, advice)


def floors(p: CovariancePatient) -> Check:
    """Traces that a floor decided, and the factors of the others."""
    told, count = [], 0
    for name, info in p.trained.traces.items():
        count += info.count
        told.append(f"R_{name} times {info.factor.min():.3g} to {info.factor.max():.3g}, {info.count} floors")
    said = "; ".join(told) or "nothing is scaled to a trace"
    advice = "a trace that is not above the floor is of an indefinite matrix, or of nearly nothing: the factor is huge"
    return Check("floors", said, f"no trace below the floor {p.model.config.floor:g}", FAIL if count else OK, advice)


def scale(p: CovariancePatient) -> Check:
    """The ledger of the batch."""
    found = ledger.alarms(p.trained)
    norms = ", ".join(f"||R_{name}|| {each.norm:.3g}" for name, each in ledger.scales(p.trained, False).items())
    said = str(found[0]) if found else f"{norms}, loss {p.trained.losses.mean():.4g}"
    advice = "name what is to be scaled in CovarianceConfig.normalize; loopos report draws the ledger of a run"
    return Check("scale", said, f"neighbours within {ledger.JUMP:g}", FAIL if found else OK, advice)


def conjugation(p: CovariancePatient) -> Iterator[Check]:
    """R_samp against the sum of outer products, and whether the truth is the conjugate of what the snapshots give."""
    x = as_complex(p.batch[0], COMPLEX["float64"])
    x = x - x.mean(axis=1, keepdims=True) if p.model.config.center else x
    outer = sum(row[:, :, None] * row.conj()[:, None, :] for row in x.swapaxes(0, 1))
    samp = p.trained.matrices["samp"].astype(np.complex128)
    unit = lambda r: r / np.linalg.norm(r, axis=(1, 2), keepdims=True)  # noqa: E731
    off = {name: float(np.linalg.norm(unit(samp) - unit(r))) for name, r in (("aaᴴ", outer), ("AᴴA", outer.conj()))}
    said = f"R_samp is {off['aaᴴ']:.2g} from the sum of a aᴴ, and {off['AᴴA']:.2g} from Aᴴ A, its conjugate"
    wrong = off["aaᴴ"] > min(1e-3, off["AᴴA"])
    advice = "of rows A (L, N) the covariance is Aᵀ conj(A) / L; Aᴴ A is its conjugate, and mirrors all directions"
    yield Check("conjugation", said, "the sum of a aᴴ", FAIL if wrong else OK, advice)
    truth = p.trained.matrices["truth"].astype(np.complex128)
    near, far = (float(np.linalg.norm(unit(r) - unit(truth))) for r in (samp, samp.conj()))
    said = f"R_samp is {near:.3g} from the truth, its conjugate {far:.3g}"
    advice = "snapshots and truth are of opposite conventions: conjugate one of them"
    yield Check("convention of the data", said, "the nearer one is R_samp", WARN if near > far else OK, advice)


def reach(p: CovariancePatient) -> Check:
    """Every trainable parameter has a gradient."""
    p.accumulate(p.model)
    still = [name for name, grad in p.model._core.gradients().items() if not np.any(grad)]
    said = f"none reaches {', '.join(still)}" if still else "every trainable parameter has one"
    return Check("gradient reaches", said, "a gradient in each", FAIL if still else OK)


def gradients(p: CovariancePatient) -> Check:
    """Of the whole loss, by differences in float64, at one number of each tensor."""
    model = CovarianceNetwork(p.model.config, dtype="float64")
    model.load_state_dict({name: view.astype(np.float64) for name, view in p.model.parameters().items()})
    p.accumulate(model)
    worst, place = 0.0, ""
    for name, grad in {n: g.copy() for n, g in model._core.gradients().items()}.items():
        view, index = model.parameters()[name], np.unravel_index(int(np.abs(grad).argmax()), grad.shape)
        kept, values = view[index], []
        for at in (kept + STEP, kept - STEP):
            view[index] = at
            values.append(p.accumulate(model))
        view[index] = kept
        want = (values[0] - values[1]) / (2 * STEP)
        error = abs(want - grad[index]) / max(abs(want), 1e-6 * max(1.0, abs(values[0])))
        if not error <= worst:
            worst, place = error, name
    said = f"worst relative error {worst:.2g} ({place})"
    return Check("gradcheck", said, f"at most {GRADIENT:g}", OK if worst <= GRADIENT else FAIL)


def schedule(p: CovariancePatient) -> Check:
    """The rate of the first update, in a run on a copy: a scheduler that steps before the optimizer skips it."""
    given = asdict(p.settings)
    shape = {"lr": given["learning_rate"], "schedule": given["lr_schedule"], "min_lr": given["min_lr"]}
    total = given["max_steps"] or 100
    want = learning_rate(0, total, **shape, warmup_steps=given["warmup_steps"])
    names = ("learning_rate", "lr_schedule", "warmup_steps", "min_lr", "optimizer", "seed", "batch_size", "muon_lr")
    run = {name: given[name] for name in names} | {"max_steps": total, "progress": False}
    twin, stop = copy.deepcopy(p.model), _Stop()
    got = train(twin, p.data, **run, callbacks=[stop]).history[0]["learning_rate"]
    said = f"the first update has the rate {got:.3g}"
    verdict = OK if got == want else FAIL
    advice = "the schedule was advanced before the first update: its first rate is lost"
    return Check("scheduler before optimizer", said, f"the first of the schedule, {want:.3g}", verdict, advice)


class _Stop(Callback):
    def on_step_end(self, info: dict[str, Any]) -> bool:
        return True


EXAMINATIONS: list[tuple[str, Callable[[CovariancePatient], Any]]] = [
    ("train and evaluation", one_path),
    ("positive definite", definite),
    ("floors", floors),
    ("scale", scale),
    ("conjugation", conjugation),
    ("gradient reaches", reach),
    ("gradcheck", gradients),
    ("scheduler before optimizer", schedule),
]
FULL_ONLY = {"gradcheck", "scheduler before optimizer"}


def examine(
    model: CovarianceNetwork, data: Any, settings: TrainSettings, quick: bool, examined: Callable[..., Any]
) -> Iterator[Check]:
    """The checks of a run of ``model`` on ``data``. examined: what makes a finding of whatever an examination does."""
    patient = CovariancePatient(model, data, settings)
    for name, examination in EXAMINATIONS:
        if not (quick and name in FULL_ONLY):
            yield from examined(name, examination, patient)
