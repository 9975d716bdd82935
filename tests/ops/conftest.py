"""Shared by the tests of the operations: figures of each instruction set, central differences."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from on_isa import environment


@functools.cache
def run_measurement(script: str, isa: str) -> dict | str:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / script)],
        env=environment(isa),
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode and "does not have it" in done.stderr:
        return done.stderr
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def measure(request):
    """measure(script): what a script of this folder prints as JSON, once for each instruction set of this machine."""

    def run(script):
        figures = run_measurement(script, request.param)
        if isinstance(figures, str):
            pytest.skip(f"this machine or build has no {request.param}")
        assert figures.pop("isa", request.param) == request.param
        return figures

    return run


@pytest.fixture
def measured(measure):
    """What measure_elementwise.py printed, once for each instruction set that this machine has."""
    return measure("measure_elementwise.py")


def relative(got, want):
    return float(np.linalg.norm(np.asarray(got, np.float64) - want) / max(np.linalg.norm(want), 1e-300))


@pytest.fixture
def check_gradient():
    """check(f, gradient, x, seed=0): gradient(dy, x) against central differences of sum(dy f(x)) in float64.

    It must be right to 1e-6 and, planted with an error of 0.1 %, must be found out.
    """

    def check(f, gradient, x, seed=0):
        y = np.asarray(f(x))
        dy = np.random.default_rng(seed).standard_normal(y.shape)
        want = np.empty_like(x)
        for i in np.ndindex(x.shape):
            h = 1e-6 * max(1.0, abs(x[i]))
            up, down = x.copy(), x.copy()
            up[i] += h
            down[i] -= h
            want[i] = np.sum(dy * (np.asarray(f(up)) - np.asarray(f(down)))) / (up[i] - down[i])
        got = np.asarray(gradient(dy, x))
        assert got.shape == x.shape
        assert np.any(got != 0)
        assert relative(got, want) < 1e-6
        assert relative(got * 1.001, want) > 1e-6  # a planted error of 0.1 %
        planted = got.copy()
        planted.flat[np.abs(got).argmax()] *= 1.001  # and in one element
        assert relative(planted, want) > 1e-6

    return check
