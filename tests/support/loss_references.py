"""The losses of loopos.losses by name, their formulas in numpy, and pairs of rows to try them on."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from loopos import losses

CALLS = {
    "mse": losses.mse,
    "normalized_mse": losses.normalized_mse,
    "cosine": losses.cosine,
    "kl": losses.kl,
    "kl_warm": partial(losses.kl, temperature=2.5),
}
every_loss = pytest.mark.parametrize("name", CALLS)


def log_softmax(x):
    top = x.max(-1, keepdims=True)
    return x - top - np.log(np.exp(x - top).sum(-1, keepdims=True))


def reference(name, s, t):
    if name == "mse":
        return ((s - t) ** 2).mean() if s.size else 0.0
    if name == "normalized_mse":
        rows = ((s - t) ** 2).sum(-1) / (t**2).sum(-1)
    elif name == "cosine":
        rows = 1 - (s * t).sum(-1) / np.sqrt((s**2).sum(-1) * (t**2).sum(-1))
    else:
        h = 2.5 if name == "kl_warm" else 1.0
        p, q = log_softmax(t / h), log_softmax(s / h)
        rows = h * h * (np.exp(p) * (p - q)).sum(-1)
    return rows.mean() if rows.size else 0.0


def pair(*shape, seed=0, size=1.0):
    return size * np.random.default_rng(seed).standard_normal((2, *shape))
