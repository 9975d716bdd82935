"""The scale ledger: how large every named matrix of the pipeline is, at every stage, and what is out of scale.

A loss of 1.7e25 passes a check for finite numbers; a norm that is a million times its neighbour's does not pass this
one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loopos import linalg

from .pipeline import STAGES, Covariances

JUMP = 1e3  # between neighbours, or training and evaluation
NEIGHBOURS = (("pred", "samp"), ("pred", "blend"), ("samp", "blend"), ("blend", "loaded"))
LOSS_TIMES = 1e2  # a loss above so many times ||truth||², where the plain distance is the loss
QUANTITIES = ("norm", "trace", "smallest", "condition")


@dataclass(frozen=True)
class Scale:
    """Of one matrix over a batch. norm, trace: means of the Frobenius norm and of the trace; largest: the largest norm,
    and whose it is. smallest, condition: the smallest eigenvalue, and the largest over it (inf where it is not above
    0), of that sample; NaN where they were not asked for."""

    norm: float
    trace: float
    largest: float
    sample: int
    smallest: float = np.nan
    condition: float = np.nan


@dataclass(frozen=True)
class ScaleAlarm:
    """name: of the matrix, or "loss"; value: its norm; sample: of the batch; sentence: what is out of scale, why."""

    name: str
    value: float
    sample: int
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def scales(result: Covariances, eigenvalues: bool = True) -> dict[str, Scale]:
    """Of every stage. eigenvalues: of one sample a stage are computed, too."""
    return {name: _scale(result.matrices[name], eigenvalues) for name in STAGES}


def _scale(matrix: np.ndarray, eigenvalues: bool) -> Scale:
    norms, traces = linalg.frobenius_norm(matrix).astype(np.float64), linalg.trace(matrix).astype(np.float64)
    if not norms.size:
        return Scale(0.0, 0.0, 0.0, -1)
    worst = int(np.argmax(np.where(np.isnan(norms), np.inf, norms)))
    found = float(norms.mean()), float(traces.mean()), float(norms[worst]), worst
    if not eigenvalues or not np.isfinite(matrix[worst]).all():
        return Scale(*found)
    values = np.linalg.eigvalsh(matrix[worst].astype(np.complex128))
    condition = float(values[-1] / values[0]) if values[0] > 0 else np.inf
    return Scale(*found, float(values[0]), condition)


def flat(found: Mapping[str, Scale], prefix: str = "") -> dict[str, float]:
    """For a line of a log: "pred_norm", "pred_trace" and so on; what is not known is left out."""
    numbers = {f"{prefix}{name}_{q}": getattr(scale, q) for name, scale in found.items() for q in QUANTITIES}
    return {name: float(value) for name, value in numbers.items() if not np.isnan(value)}


def alarms(result: Covariances) -> list[ScaleAlarm]:
    """What is out of scale in a batch: neighbours whose norms are more than JUMP apart, traces that a floor decided,
    estimates of positive trace that are indefinite, and a plain distance far beyond what scaled matrices can have.
    What is not finite is the gate's affair, and no alarm here."""
    norms = {name: linalg.frobenius_norm(result.matrices[name]).astype(np.float64) for name in STAGES}
    found = []

    def tell(name: str, values: np.ndarray, b: int, sentence: str) -> None:
        found.append(ScaleAlarm(name, float(values[b]), int(b), sentence))

    for name, info in result.traces.items():
        for b in np.flatnonzero(info.floored)[:1]:
            text = f"the trace of R_{name} of sample {b} was {info.trace[b]:.3g}, below the floor {info.floor:g}, so"
            text += f" it was multiplied by {info.factor[b]:.3g}: ||R_{name}|| is {norms[name][b]:.3g}"
            tell(name, norms[name], b, f"{text} ({info.count} of {info.floored.size} samples)")
    for first, second in NEIGHBOURS:
        with np.errstate(all="ignore"):
            ratio = np.abs(np.log10(norms[second]) - np.log10(norms[first]))
        for b in np.flatnonzero(ratio > np.log10(JUMP))[:1]:
            text = f"||R_{second}|| of sample {b} is {norms[second][b]:.3g} beside ||R_{first}|| {norms[first][b]:.3g}"
            tell(second, norms[second], b, f"{text}: a jump of more than {JUMP:g}")
    if "frobenius" in result.parts:
        size = linalg.frobenius_norm(result.matrices["truth"]).astype(np.float64) ** 2
        loss = result.parts["frobenius"]
        for b in np.flatnonzero(loss > LOSS_TIMES * size)[:1]:
            text = f"the loss of sample {b} is {loss[b]:.3g}, and the truth's squared norm {size[b]:.3g}"
            tell("loss", loss, b, f"{text}: matrices of one scale are not so far apart")
    return found


def apart(train: Mapping[str, float], evaluated: Mapping[str, float]) -> list[ScaleAlarm]:
    """What training and evaluation see at scales more than JUMP apart; both are what :func:`flat` gives, of the same
    names."""
    found = []
    for name in STAGES:
        ours, theirs = (float(side.get(f"{name}_norm", np.nan)) for side in (train, evaluated))
        if ours > 0 and theirs > 0 and not 1 / JUMP <= ours / theirs <= JUMP:
            found.append(
                ScaleAlarm(
                    name,
                    ours,
                    -1,
                    f"||R_{name}|| is {ours:.3g} in training and {theirs:.3g} in evaluation: a matrix is scaled on one "
                    "of the two paths only",
                )
            )
    return found
