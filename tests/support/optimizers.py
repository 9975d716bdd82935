"""Every optimizer with options that take each of its paths, and arrays for it to work on. A new rule needs a row here:
the tests in tests/optim walk the table."""

from __future__ import annotations

import math

import numpy as np

from loopos import optim

MAKERS = {
    "sgd": (optim.SGD, {"lr": 0.01}),
    "sgd l2": (optim.SGD, {"lr": 0.01, "weight_decay": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    "dampening": (optim.SGD, {"lr": 0.01, "momentum": 0.9, "dampening": 0.3}),
    "nesterov": (optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": (optim.Adam, {"lr": 0.01}),
    "adam l2": (optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99)}),
    "adamw": (optim.AdamW, {}),
    "adamw decay": (optim.AdamW, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.0, 0.95), "eps": 1e-6}),
    "lion": (optim.Lion, {}),
    "lion decay": (optim.Lion, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.95, 0.98)}),
    "muon": (optim.Muon, {"lr": 0.01}),
    "muon plain": (optim.Muon, {"lr": 0.01, "nesterov": False, "weight_decay": 0, "ns_steps": 4}),
    "muon rms": (optim.Muon, {"lr": 0.003, "adjust_lr_fn": "match_rms_adamw", "momentum": 0.9}),
}
SHAPES = {"w": (5, 7), "big": (20011,), "scalar": (), "empty": (0, 3)}


def shapes_of(kind, shapes=SHAPES):
    """The shapes, as matrices for what takes matrices only."""
    if not MAKERS[kind][0]._matrices_only:
        return shapes
    return {name: s if len(s) == 2 else (math.prod(s) // 89 or 1, 89 if s else 1) for name, s in shapes.items()}


def draw(seed, dtype, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()}


def bits(optimizer, params):
    state = optimizer.state_dict()
    return (
        [a.tobytes() for a in params.values()]
        + [state["step"]]
        + [v.tobytes() for k, v in state.items() if k != "step"]
    )


def make(kind, params):
    cls, options = MAKERS[kind]
    return cls(params, **options)
