"""From snapshots and what the network gives of them to one covariance a sample, and its loss: the one function that
training, evaluation and the experiment that failed all go through.

    snapshots -> (each over its root mean power) -> R_samp -> (trace N)
    vectors   -> R_pred = F Fᴴ + eps I, or a Hermitian matrix -> (trace N)
    R_blend   = (1 - beta) R_pred + beta R_samp -> (trace N)
    R_loaded  = R_blend + loading I -> the loss, against the truth scaled to the trace N

What is in brackets is done where ``CovarianceConfig.normalize`` names it. The scale that the snapshots had is left out
of all of it: ``Covariances.scale`` has it, and R_loaded times scale² is in the units of the snapshots. R_samp is data:
no gradient flows into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from loopos import linalg
from loopos.errors import AmplificationError

from .config import CovarianceConfig
from .losses import weighted
from .network import root_power

STAGES = ("pred", "samp", "blend", "loaded")  # the named matrices, in their order


@dataclass(frozen=True, eq=False)
class Covariances:
    """What the pipeline made of B samples.

    matrices   "pred", "samp", "blend", "loaded" and, where there is one, "truth": (B, N, N), as the loss sees them
    raw        the same before they were scaled to a trace, of those that are
    traces     what was done to those: loopos.linalg.TraceInfo by name
    scale      (B,): the root mean power of the snapshots, where they are normalised; else 1
    beta       the weight of R_samp
    losses     float64 (B,), of each sample; None without a truth
    parts      each loss of the configuration without its weight
    """

    config: CovarianceConfig
    snapshots: np.ndarray
    vectors: np.ndarray
    beta: float
    scale: np.ndarray
    matrices: Mapping[str, np.ndarray]
    raw: Mapping[str, np.ndarray]
    traces: Mapping[str, linalg.TraceInfo]
    losses: np.ndarray | None = None
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)
    dloaded: np.ndarray | None = None

    @property
    def covariance(self) -> np.ndarray:
        """The estimate (B, N, N)."""
        return self.matrices["loaded"]

    def backward(self, weight: float = 1.0) -> tuple[np.ndarray, float]:
        """The gradients of ``weight`` times the sum of the losses: by the vectors (B, rank, N), and by the logit of
        beta."""
        config, real = self.config, self.vectors.real.dtype.type
        if self.dloaded is None:
            raise ValueError("Covariances.backward: without a truth there is no loss")
        dblend = self.dloaded * real(weight)
        if "blend" in config.normalize:
            dblend = linalg.trace_normalize_backward(dblend, self.raw["blend"], **_scaling(config))
        pred, samp = self.matrices["pred"], self.matrices["samp"]
        dpred, _, dbeta = linalg.blend_backward(dblend, pred, samp, self.beta)
        if "pred" in config.normalize:
            dpred = linalg.trace_normalize_backward(dpred, self.raw["pred"], **_scaling(config))
        if config.prediction != "unconstrained":
            dvectors = linalg.sample_covariance_backward(dpred, self.vectors) * real(config.rank)
        else:
            dvectors = linalg.hermitize(dpred)
        return dvectors, float(dbeta) * self.beta * (1 - self.beta)


def pipeline(
    config: CovarianceConfig,
    snapshots: np.ndarray,
    vectors: np.ndarray,
    beta: float,
    truth: np.ndarray | None = None,
    sources: np.ndarray | None = None,
) -> Covariances:
    """snapshots: complex (B, L, N); vectors: (B, rank, N) of the network, of the same dtype; truth: (B, N, N), of any
    scale; sources (B,): how many, for the subspace loss.

    AmplificationError, which names matrix, batch entry, trace, floor and factor, where a scaling exceeds
    ``config.limit``; NotPositiveDefiniteError where a loss needs a matrix that is, and it is not."""
    scale = root_power(snapshots) if "snapshots" in config.normalize else np.ones(len(snapshots))
    raw: dict[str, np.ndarray] = {}
    traces: dict[str, linalg.TraceInfo] = {}

    def finished(name: str, matrix: np.ndarray) -> np.ndarray:
        if name not in config.normalize:
            return matrix
        raw[name] = matrix
        scaled, traces[name] = _to_trace(name, matrix, **_scaling(config))
        return scaled

    pred = finished("pred", predicted(config, vectors))
    samp = finished("samp", sampled(config, snapshots, scale))
    blend = finished("blend", linalg.hermitize(linalg.blend(pred, samp, beta)))
    loaded = linalg.load_diagonal(blend, config.loading)
    matrices = {"pred": pred, "samp": samp, "blend": blend, "loaded": loaded}
    about = (config, snapshots, vectors, float(beta), scale, matrices, raw, traces)
    if truth is None:
        return Covariances(*about)
    truth = np.ascontiguousarray(truth, vectors.dtype)
    matrices["truth"], _ = _to_trace("truth", truth, floor=0.0, max_amplification=np.inf)  # however faint it is
    sources = np.zeros(len(snapshots), np.int64) if sources is None else sources
    losses, dloaded, parts = weighted(config.loss, loaded, matrices["truth"], sources)
    return Covariances(*about, losses, parts, dloaded)


def predicted(config: CovarianceConfig, vectors: np.ndarray) -> np.ndarray:
    """R_pred of vectors (B, rank, N), before it is scaled: F Fᴴ + eps I, whose trace is at least N eps, or the
    Hermitian part of an unconstrained matrix with these columns."""
    if config.prediction == "unconstrained":
        return linalg.hermitize(vectors)
    gram = linalg.sample_covariance(vectors) * vectors.real.dtype.type(config.rank)
    return linalg.load_diagonal(gram, config.eps)


def sampled(config: CovarianceConfig, snapshots: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """R_samp = (1/L) Σ x xᴴ of the snapshots over ``scale``, before it is scaled to a trace; centred: 1 / (L - 1)."""
    scaled = snapshots / scale.astype(snapshots.real.dtype)[:, None, None]
    samp = linalg.sample_covariance(scaled, config.center)
    length = snapshots.shape[1]
    return samp * samp.real.dtype.type(length / max(1, length - 1)) if config.center else samp


def _to_trace(name: str, matrix: np.ndarray, **limits: float) -> tuple[np.ndarray, linalg.TraceInfo]:
    """Scaled to the trace N. What is refused has its name."""
    try:
        return linalg.trace_normalize(matrix, **limits)
    except AmplificationError as error:
        error.args = (f"R_{name}: {error}",)
        raise


def _scaling(config: CovarianceConfig) -> dict[str, float]:
    limit = np.inf if config.limit is None else config.limit
    return {"floor": config.floor, "max_amplification": limit}
