"""Float against double over input scales 1 to 512, on every instruction set: matmul, linear, the norms, embedding
and rope.

The instruction set is chosen once per process, so this file is also the program that each subprocess runs.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from sweeps import POWERS

# Largest ||float - double|| / ||double|| that the arithmetic needs; the norms' gates are those of notes on accuracy
# (mean / sd 0).
GATES = {
    "matmul": 5e-7,
    "linear": 5e-7,
    "linear dbias": 6e-8,
    "layer_norm y": 5e-7,
    "layer_norm dx": 5e-7,
    "layer_norm dweight": 1e-6,
    "layer_norm dbias": 1e-6,
    "rms_norm y": 5e-7,
    "rms_norm dx": 5e-7,
    "rms_norm dweight": 1e-6,
    "embedding_backward": 6e-8,
    "rope": 2e-7,
    "rope_backward": 2e-7,
}


def results(dtype, scale):
    """Every output by name; the inputs are the same float32 numbers in both dtypes."""
    from loopos import ops

    rng = np.random.default_rng(int(scale))

    def draw(*shape, factor=scale):
        return (factor * rng.standard_normal(shape)).astype(np.float32).astype(dtype)

    out = {}
    for shape in ((33, 70, 47), (13, 300, 65), (5, 9, 3)):
        a, b, dc = draw(*shape[:2]), draw(*shape[1:], factor=1), draw(shape[0], shape[2])
        out[f"matmul {shape}"] = [ops.matmul(a, b), *ops.matmul_backward(dc, a, b)]
        bias = draw(shape[2])
        out[f"linear {shape}"] = [ops.linear(a, b.T, bias), *ops.linear_backward(dc, a, b.T)[:2]]
        out[f"linear dbias {shape}"] = [ops.linear_backward(dc, a, b.T)[2]]
    for shape in ((40, 65), (7, 129), (3, 5)):
        x, w, bias, dy = draw(*shape), draw(shape[1], factor=1), draw(shape[1], factor=1), draw(*shape)
        y, mean, rstd = ops.layer_norm(x, w, bias)
        dx, dw, db = ops.layer_norm_backward(dy, x, w, mean, rstd)
        for name, value in (("y", y), ("dx", dx), ("dweight", dw), ("dbias", db)):
            out[f"layer_norm {name} {shape}"] = [value]
        y, rstd = ops.rms_norm(x, w)
        for name, value in zip(("dx", "dweight"), ops.rms_norm_backward(dy, x, w, rstd), strict=True):
            out[f"rms_norm {name} {shape}"] = [value]
        out[f"rms_norm y {shape}"] = [y]
        out[f"embedding_backward {shape}"] = [ops.embedding_backward(dy, np.arange(shape[0]) % 3, 3)]
    x, positions = draw(2, 3, 9, 34), np.arange(9) * 50
    out["rope"] = [ops.rope(x, positions), ops.rope(x, positions, interleaved=True)]
    out["rope_backward"] = [ops.rope_backward(x, positions)]
    return out


def measure():
    worst = {}
    for power in POWERS:
        single, double = results(np.float32, 2.0**power), results(np.float64, 2.0**power)
        for name, wants in double.items():
            gate = max((g for g in GATES if name.startswith(g)), key=len)
            for got, want in zip(single[name], wants, strict=True):
                assert got.dtype == np.float32
                assert want.dtype == np.float64
                assert np.abs(want).max() > 0, f"{name} is zero everywhere: it proves nothing"
                worst[gate] = max(worst.get(gate, 0), np.linalg.norm(got - want) / np.linalg.norm(want))
    return worst


def run(isa):
    from on_isa import environment

    return subprocess.run(
        [sys.executable, __file__], env=environment(isa), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_float_agrees_with_double(isa):
    process = run(isa)
    if process.returncode and "does not have it" in process.stderr:
        pytest.skip(f"this machine or build has no {isa}")
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    assert report["isa"] == isa
    worst = report["worst"]
    assert worst.keys() == GATES.keys()
    over = {name: (worst[name], gate) for name, gate in GATES.items() if not worst[name] <= gate}
    assert not over, f"{isa}: measured error above its gate: {over}"
    assert report["exact"] == []
    assert 0 < report["bound"] <= 16


def inexact_products():
    """Whole numbers, whose products every order of addition gets right: the shapes that fail, if any."""
    from loopos import ops

    rng, wrong = np.random.default_rng(0), []
    shapes = [tuple(int(s) for s in rng.integers(1, 40, 3)) for _ in range(150)]
    for m, k, n in [*shapes, (241, 257, 33), (125, 513, 70), (13, 300, 200), (3, 1100, 37)]:
        a, b, dc = (rng.integers(-9, 10, s).astype(np.float32) for s in ((m, k), (k, n), (m, n)))
        wide_a, wide_b, wide_dc = (x.astype(np.float64) for x in (a, b, dc))
        da, db = ops.matmul_backward(dc, a, b)
        dx, dw, _ = ops.linear_backward(dc, a, np.ascontiguousarray(b.T))
        pairs = [
            (ops.matmul(a, b), wide_a @ wide_b),
            (ops.linear(a, b.T), wide_a @ wide_b),
            (da, wide_dc @ wide_b.T),
            (db, wide_a.T @ wide_dc),
            (dx, wide_dc @ wide_b.T),
            (dw, wide_dc.T @ wide_a),
        ]
        if not all((got == want).all() for got, want in pairs):
            wrong.append((m, k, n))
    return wrong


def error_over_bound():
    """The largest error of an element of a product in units of 2^-24 (|a| |b|): the measure that cancellation cannot
    spoil."""
    from loopos import ops

    rng, worst = np.random.default_rng(1), 0.0
    for m, k, n in [(1, 5, 1), (33, 70, 47), (30, 600, 20), (5, 3072, 7)]:
        a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        unit = 2.0**-24 * (np.abs(wide_a) @ np.abs(wide_b))
        for got in (
            ops.matmul(a, b),
            ops.linear(a, b.T),
            ops.linear_backward(a.T.copy(), b, np.zeros((m, n), np.float32))[1],
        ):
            worst = max(worst, float((np.abs(got - wide_a @ wide_b) / unit).max()))
    return worst


if __name__ == "__main__":
    from loopos import _core

    print(
        json.dumps({"isa": _core.isa(), "worst": measure(), "exact": inexact_products(), "bound": error_over_bound()})
    )
