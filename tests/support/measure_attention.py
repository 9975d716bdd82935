"""The error of float attention against double, for each kind of visibility and over scales of the input: printed as
JSON, for the instruction set that the environment asks for."""

from __future__ import annotations

import json

import numpy as np
from attention_reference import make, relative
from sweeps import POWERS

from loopos import _core, ops

KINDS = {
    "full": {},
    "memory": {},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 20},
    "prefix": {"causal": True, "prefix": 9},
    "both": {"causal": True, "window": 20, "prefix": 9},
    "cached": {"causal": True, "window": 50, "start": 33},
    "documents": {"causal": True, "begins": np.repeat([0, 1, 37, 90], [1, 36, 53, 10])[None].repeat(2, 0)},
}
KEYS = {"memory": 41, "cached": 133}


def error(kind, power):
    """Largest error, in units of what a score's own rounding explains: its size times 2^-24 becomes a relative error of
    the probability."""
    shape = (2, 4, 2, 100, KEYS.get(kind, 100), 20, 24)
    arrays = make(shape, np.float32, scale=2.0**power / 8)
    wide = [x.astype(np.float64) for x in arrays]
    both = []
    for q, k, v, dy in (arrays, wide):
        y, lse = ops.attention(q, k, v, **KINDS[kind])
        both.append((y, *ops.attention_backward(dy, q, k, v, y, lse, **KINDS[kind])))
    size = max(1.0, np.abs(np.einsum("bhtd,bhsd->bhts", wide[0], np.repeat(wide[1], 2, axis=1))).max() * 20**-0.5)
    return max(relative(got, want) for got, want in zip(*both, strict=True)) / size


if __name__ == "__main__":
    worst = {kind: max(error(kind, power) for power in POWERS) for kind in KINDS}
    print(json.dumps({"isa": _core.isa(), "worst": worst}))
