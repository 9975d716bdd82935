"""Small networks of snapshots and samples that the tests of covariance share, and the network again in PyTorch."""

from __future__ import annotations

import numpy as np
from pictures import shaken

from loopos.covariance import CovarianceConfig, CovarianceNetwork
from loopos.covariance.pipeline import pipeline

POWERS = {"prediction": "powers", "elements": 6, "shape": (2, 3), "reach": 1}


def small(**changes) -> CovarianceConfig:
    return CovarianceConfig(**{"elements": 5, "n_layer": 2, "n_head": 2, "d_model": 8, "rank": 2, **changes})


def network(dtype="float64", **changes) -> CovarianceNetwork:
    return shaken(CovarianceNetwork(small(**changes), seed=1, dtype=dtype))


def samples(batch=3, length=4, elements=5, dtype="complex128", seed=0):
    rng = np.random.default_rng(seed)
    shape = (batch, length, elements)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)


def quadratic(model, seed=3):
    """A loss of the network's numbers with a gradient that no symmetry makes zero: sum(c y + y² / 2) and logit times
    the sum."""
    weights = np.random.default_rng(seed).standard_normal(model.config.outputs)

    def loss(numbers):
        logit = float(model.parameters()["blend"][0]) if model.config.learn_beta else 0.0
        value = float((weights * numbers + numbers.astype(np.float64) ** 2 / 2).sum())
        return value * (1 + logit), (((weights + numbers) * (1 + logit)).astype(numbers.dtype)), value

    return loss


def in_torch(weights, config, rows):
    """numbers (B, outputs) of rows (B, L, channels), by plain functions of LoopOS's own weights by name."""
    import torch_pictures

    x = torch_pictures._linear(weights, "snapshot", rows)
    x = torch_pictures._blocks(weights, "", x, config.n_layer, config.n_head, config.norm_eps, "none", None)
    if config.prediction == "powers":
        return torch_pictures._linear(weights, "factor", x).flatten(1)
    return torch_pictures._linear(weights, "factor", x.mean(1))


SOURCES = np.array([1, 2, 3])


def truth(seed=7):
    x = samples(3, 9, seed=seed)
    return np.einsum("bln,blm->bnm", x, x.conj())


def vectors(config, seed=5):
    return samples(3, config.rank, seed=seed)


def run(config, given, logit=0.3, snapshots=None):
    x = samples() if snapshots is None else snapshots
    return pipeline(config, x, given, 1 / (1 + np.exp(-logit)), truth(), SOURCES)
