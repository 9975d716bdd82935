"""Prints, as JSON, how far loopos.losses in float32 are from float64, over input scales 2^0 to 2^9 (run by
test_row_losses.py once for each instruction set)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from loopos import _core, losses

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from loss_references import CALLS
from sweeps import POWERS


def main():
    rng, worst = np.random.default_rng(0), {}
    for power in POWERS:
        for width in (33, 600):
            s, t = (2.0**power * rng.standard_normal((2, 7, width))).astype(np.float32)
            for name, call in CALLS.items():
                (loss, gradient), (want, exact) = call(s, t), call(s.astype(np.float64), t.astype(np.float64))
                errors = abs(loss - want) / want, np.linalg.norm(gradient - exact) / np.linalg.norm(exact)
                for key, error in zip((name, name + "_gradient"), errors, strict=True):
                    worst[key] = max(worst.get(key, 0.0), float(error))
    s = rng.standard_normal((5, 700)).astype(np.float32)
    t = s + np.float32(1e-4) * rng.standard_normal(s.shape).astype(np.float32)
    want = losses.kl(s.astype(np.float64), t.astype(np.float64))[0]
    worst["kl_near"] = abs(losses.kl(s, t)[0] - want) / want
    print(json.dumps({"isa": _core.isa(), **worst}))


if __name__ == "__main__":
    main()
