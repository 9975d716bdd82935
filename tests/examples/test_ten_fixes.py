"""The ten fixes of case 0, each alone, and the captioner that they are measured on."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos

FOLDER = Path(__file__).resolve().parents[2] / "examples/cases"
CAPTIONER = runpy.run_path(str(FOLDER / "small_captioner.py"))
LONG_TRAINING = pytest.mark.unsanitized("trains in a process of its own, by operations that have their own tests")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    beside = os.pathsep.join(filter(None, [str(Path(loopos.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": beside, "LOOPOS_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(FOLDER / "ten_fixes.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)


def test_every_gradient_of_the_captioner_agrees_with_differences():
    model = CAPTIONER["SmallCaptioner"](0)
    model.parameters = {name: value.astype(np.float64) for name, value in model.parameters.items()}
    seen, ids, targets = CAPTIONER["pictures"](3, 1)
    batch = seen.astype(np.float64), ids, targets
    weights = np.random.default_rng(0).normal(size=(*ids.shape, CAPTIONER["VOCABULARY"]))
    grads = model.backward(weights, model.forward(batch)[1])
    assert grads.keys() == model.parameters.keys()
    for name, array in model.parameters.items():
        direction = np.random.default_rng(1).normal(size=array.shape)
        ends = []
        for step in (1e-5, -2e-5):
            array += step * direction
            ends.append((model.forward(batch)[0] * weights).sum())
        array += 1e-5 * direction
        slope = (ends[0] - ends[1]) / 2e-5
        assert (grads[name] * direction).sum() == pytest.approx(slope, rel=1e-6), name


def test_bfloat16_is_rounded_to_nearest_even():
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-7, 3.0e38, 0.0], np.float32)
    rounded = CAPTIONER["bfloat16"](x)
    assert rounded[:4].tolist() == [1.0, 1.0, 1 + 2**-6, -1 - 2**-7]
    assert rounded[4] == pytest.approx(3.0e38, rel=2**-8)
    assert rounded[5] == 0


@LONG_TRAINING
def test_what_the_readme_says_of_the_naive_softmax_is_measured():
    result = run("--quick")  # the losses take half a minute of a processor more; the whole program checks them itself
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "every claim was measured true in this run"
    told = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", result.stdout, re.M))
    section = (FOLDER / "README.md").read_text().partition("each alone")[2]
    written = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", section, re.M))
    rows = [name for name in told if name not in ("changed alone", "---")]
    assert len(rows) == 14
    for name in rows:
        said = next(value for row, value in written.items() if row.startswith(name))
        assert ("no NaN" in said) == (told[name] == "no NaN"), name
        assert "no NaN" in said or told[name] == "step 13", name
