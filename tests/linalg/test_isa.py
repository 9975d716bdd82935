"""complex64 beside complex128 over scales, on every instruction set that this machine has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from on_isa import environment

import loopos


@pytest.mark.unsanitized("processes of its own, without the sanitizers' libraries")
@pytest.mark.parametrize("isa", loopos._core.available_isas())
def test_float_agrees_with_double_on_every_instruction_set(isa):
    script = str(Path(__file__).parent / "measure_linalg.py")
    run = subprocess.run([sys.executable, script], env=environment(isa), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["isa"] == isa
    assert len(told["figures"]) == 16
    bounds = {name: 3e-6 if "spectral" in name else 1e-6 for name in told["figures"]}
    assert {name: error for name, error in told["figures"].items() if not error < bounds[name]} == {}
