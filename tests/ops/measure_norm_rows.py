"""Rows of equal and of nearly equal numbers over all magnitudes: layer_norm and rms_norm, forward and backward.

Compared with the formulas in 420 digits, which hold every double. Prints the largest errors as JSON (run by
test_norm_rows.py, once per instruction set)."""

from __future__ import annotations

import json
from decimal import Decimal, getcontext

import numpy as np
from sweeps import SANITIZED

from loopos import _core, ops

getcontext().prec = 420
getcontext().Emin, getcontext().Emax = -9999, 9999
EPS = 1e-5


def exact(kind, x, dy, w):
    """y, dx, dweight and the scale of dx, rstd max |dy w|; one row."""
    n, x, dy, w = len(x), *([Decimal(float(v)) for v in a] for a in (x, dy, w))
    mean = sum(x) / n if kind == "layer_norm" else Decimal(0)
    d = [v - mean for v in x]
    rstd = 1 / (sum(v * v for v in d) / n + Decimal(EPS)).sqrt()
    xhat, g = [v * rstd for v in d], [a * b for a, b in zip(dy, w, strict=True)]
    mean_g = sum(g) / n if kind == "layer_norm" else Decimal(0)
    mean_gx = sum(a * b for a, b in zip(g, xhat, strict=True)) / n
    dx = [rstd * (a - mean_g - b * mean_gx) for a, b in zip(g, xhat, strict=True)]
    y = [a * b for a, b in zip(xhat, w, strict=True)]
    dweight = [a * b for a, b in zip(dy, xhat, strict=True)]
    return *([float(v) for v in a] for a in (y, dx, dweight)), float(rstd * max(abs(v) for v in g))


def ours(kind, x, dy, w):
    if kind == "layer_norm":
        y, mean, rstd = ops.layer_norm(x[None], w, eps=EPS)
        dx, dweight, _ = ops.layer_norm_backward(dy[None], x[None], w, mean, rstd)
    else:
        y, rstd = ops.rms_norm(x[None], w, eps=EPS)
        dx, dweight = ops.rms_norm_backward(dy[None], x[None], w, rstd)
    return y[0], dx[0], dweight


def rows(dtype, rng):
    """Equal numbers, numbers a few units in the last place apart, and numbers of every kind, times a power of ten."""
    top = 38 if dtype == np.float32 else 308
    step = top if SANITIZED else 7 if dtype == np.float32 else 31
    for power in range(-top, top + 1, step):
        for n in (1, 2, 7, 50, 129):
            middle = dtype(rng.uniform(1, 1.7)) * dtype(10.0) ** dtype(power)
            yield "equal", np.full(n, middle, dtype)
            yield "near", middle + np.spacing(middle) * rng.integers(-3, 4, n).astype(dtype)
            yield "mixed", (rng.standard_normal(n) * 0.3).astype(dtype) * middle


def main():
    rng, worst = np.random.default_rng(0), {}
    for dtype in (np.float32, np.float64):
        for label, x in rows(dtype, rng):
            dy, w = rng.standard_normal((2, len(x))).astype(dtype)
            for kind in ("layer_norm", "rms_norm"):
                y, dx, dweight = ours(kind, x, dy, w)
                want_y, want_dx, want_dweight, scale = exact(kind, x, dy, w)
                for name, got, want, unit in (
                    ("y", y, want_y, 1 + np.abs(want_y).max()),
                    ("dx", dx, want_dx, scale),
                    ("dweight", dweight, want_dweight, 1 + np.abs(want_dweight).max()),
                ):
                    error = np.abs(got.astype(np.float64) - want).max() / unit
                    key = f"{kind} {name} {label} {np.dtype(dtype).name}"
                    worst[key] = max(worst.get(key, 0.0), float(error) if np.isfinite(got).all() else float("inf"))
    print(json.dumps({"isa": _core.isa(), **worst}))


if __name__ == "__main__":
    main()
