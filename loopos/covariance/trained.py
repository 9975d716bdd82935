"""What a trained network makes of samples: its estimates, for :func:`loopos.covariance.evaluate` and ``sweep``, and the
scale of what it made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .batches import HELD_OUT, truth_of
from .evaluation import Row, sweep
from .network import COMPLEX, CovarianceNetwork
from .pipeline import Covariances, pipeline
from .simulation import Samples, Simulation

TESTED = 2 * HELD_OUT  # the first index of what is tested: neither trained on nor evaluated in training


@dataclass(frozen=True)
class Scales:
    """Of the samples of a cell: means of the loss and of the Frobenius norms of R_samp and R_blend, the smallest
    eigenvalue of all R_blend, and the weight of R_samp."""

    snr: float | None
    snapshots: int
    loss: float
    samp_norm: float
    blend_norm: float
    blend_smallest: float
    beta: float


def estimate(model: CovarianceNetwork, samples: Samples, beta: float | None = None) -> Covariances:
    """The pipeline of a trained network, as in training. beta: another weight of R_samp than the network's own, which
    is the best for its loss and not for directions."""
    dtype = COMPLEX[model.dtype]
    snapshots = samples.snapshots.astype(dtype)
    truth = truth_of(samples).astype(dtype)
    weight = model.beta(snapshots.shape[1]) if beta is None else beta
    return pipeline(model.config, snapshots, model.vectors(snapshots), weight, truth, samples.sources)


def predictor(
    model: CovarianceNetwork, tell: Callable[[Scales], None] | None = None, beta: float | None = None
) -> Callable[[Samples], dict[str, np.ndarray]]:
    """What ``sweep`` takes as predict: the estimate "network". tell is given the scale of each cell."""

    def predict(samples: Samples) -> dict[str, np.ndarray]:
        found = estimate(model, samples, beta)
        if tell is not None:
            tell(_scales(found, samples))
        return {"network": found.covariance.astype(np.complex128)}

    return predict


def measure(
    model: CovarianceNetwork,
    simulation: Simulation,
    snr: Sequence[float],
    snapshots: Sequence[int],
    count: int,
    beta: float | None = None,
) -> tuple[list[Row], list[Scales]]:
    """The table of ``sweep`` of samples that no training sees, the network before the baselines, and the scales."""
    scales: list[Scales] = []
    shown = replace(simulation, dtype="complex128")
    rows = sweep(shown, predictor(model, scales.append, beta), snr=snr, snapshots=snapshots, count=count, first=TESTED)
    return rows, scales


def _scales(found: Covariances, samples: Samples) -> Scales:
    norms = {name: float(np.linalg.norm(found.matrices[name], axis=(1, 2)).mean()) for name in ("samp", "blend")}
    smallest = float(np.linalg.eigvalsh(found.matrices["blend"].astype(np.complex128))[:, 0].min())
    snr = None if samples.snr is None else float(np.mean(samples.snr))
    return Scales(
        snr, samples.snapshots.shape[1], float(found.losses.mean()), norms["samp"], norms["blend"], smallest, found.beta
    )


def as_text(scales: Sequence[Scales]) -> str:
    """A table for a terminal."""
    lines = [
        f"{'snapshots':>9}{'SNR dB':>8}{'loss':>10}{'||R_samp||':>12}{'||R_blend||':>13}{'smallest':>10}{'beta':>7}"
    ]
    for each in scales:
        snr = "-" if each.snr is None else f"{each.snr:.3g}"
        lines.append(
            f"{each.snapshots:9d}{snr:>8}{each.loss:10.4g}{each.samp_norm:12.4g}{each.blend_norm:13.4g}"
            f"{each.blend_smallest:10.3g}{each.beta:7.2f}"
        )
    return "\n".join(lines)
