"""Float against double over gradients of scales 1 to 512, by every rule on every instruction set.

The instruction set is chosen once per process, so this file is also the program that each subprocess runs."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

GATE = 5e-7  # ||float - double|| / ||double||: a weight of 24 bits, rounded a few times in each of three steps


def measure():
    from optimizers import MAKERS, draw, make, shapes_of
    from sweeps import POWERS

    worst = {}
    for kind in MAKERS:
        shapes = shapes_of(kind, {"w": (70, 33), "b": (5,)})
        for power in POWERS:
            ends = []
            for dtype in (np.float32, np.float64):
                params = {n: p.astype(dtype) for n, p in draw(power, np.float32, shapes).items()}
                optimizer = make(kind, params)
                for step in range(3):
                    grads = draw(step + 20, np.float32, shapes)
                    optimizer.step({n: dtype(2**power) * g.astype(dtype) for n, g in grads.items()})
                ends.append(params)
            for name, want in ends[1].items():
                error = np.linalg.norm(ends[0][name] - want) / np.linalg.norm(want)
                worst[kind] = max(worst.get(kind, 0.0), float(error))
    return worst


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_float_agrees_with_double(isa):
    from on_isa import environment
    from optimizers import MAKERS

    process = subprocess.run(
        [sys.executable, __file__], env=environment(isa), capture_output=True, text=True, timeout=120, check=False
    )
    if process.returncode and "does not have it" in process.stderr:
        pytest.skip(f"this machine or build has no {isa}")
    assert process.returncode == 0, process.stderr
    worst = json.loads(process.stdout)
    assert worst.keys() == MAKERS.keys()
    assert not {kind: error for kind, error in worst.items() if not error <= GATE}


if __name__ == "__main__":
    print(json.dumps(measure()))
