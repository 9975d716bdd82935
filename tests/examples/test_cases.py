"""The five cases: each measures its claims true, and says so with its exit code when the repair is left out."""

from __future__ import annotations

import functools
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import loopos

FOLDER = Path(__file__).resolve().parents[2] / "examples/cases"
CASES = sorted(path.name for path in FOLDER.glob("case_*.py"))
CLAIMS = runpy.run_path(str(FOLDER / "claims.py"))
LONG_TRAINING = pytest.mark.unsanitized("trains in a process of its own, by operations that have their own tests")


@functools.cache  # what a case prints is asked for its claims and for its diagnosis
def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    beside = os.pathsep.join(filter(None, [str(Path(loopos.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": beside, "LOOPOS_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(FOLDER / arguments[0]), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_there_are_five():
    assert [name[:6] for name in CASES] == [f"case_{number}" for number in range(5)]


@LONG_TRAINING
@pytest.mark.parametrize("name", CASES)
def test_every_claim_is_measured_true(name):
    result = run(name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[-1] == "every claim was measured true in this run"
    assert lines[-2].endswith("losses: learning")
    assert sum(line.startswith("  - ") for line in lines) >= 12


@LONG_TRAINING
@pytest.mark.parametrize(
    ("name", "diagnosis"),
    [
        ("case_0_naive_softmax.py", "op exp: exp[3, 0] = inf (exp overflow: exp(193) is beyond the largest float32"),
        ("case_3_gate_at_start.py", "signal-dies (certain): rms 0.921 at first, 9.25e-05 after 32 blocks"),
        ("case_4_floor_fires.py", "eps-floor (certain): the floor 1e-09 decides 2 of 4 elements of trace: 2 of them"),
    ],
)
def test_the_diagnosis_is_the_engines_own(name, diagnosis):
    source = (FOLDER / name).read_text()
    assert "from loopos.health.stages import" in source
    assert "examine(" in source.partition("def diagnose(")[2].partition("\ndef ")[0]
    assert diagnosis in run(name).stdout


@LONG_TRAINING
@pytest.mark.parametrize("name", CASES)
def test_without_the_repair_the_claims_of_it_fail(name):
    result = run(name, "--skip-fix")
    assert result.returncode == 1
    assert re.match(r"refuted in this run: .*\d", result.stderr), result.stderr
    assert "Repaired" in result.stdout  # all claims before the repair held
    assert "every claim" not in result.stdout


@LONG_TRAINING
def test_case_3_in_the_engine(tmp_path):
    """The modulated adapter itself: gates, growth, NaN, distillation, skipped batches, and its three pictures."""
    name = "modulated_adapter.py"
    result, broken = run(name, "--pictures", str(tmp_path)), run(name, "--skip-fix")
    assert (result.returncode, result.stderr) == (0, "")
    assert "every claim was measured true in this run" in result.stdout
    for said in (
        "30 layers, document: gates multiply up to 1.79e-04, feed-forwards are given 0.750 of their input",
        "signal-explodes (certain)",
        "op multiply: products of layer 3",
        "verdict of a trend test over 80 losses: learning",
    ):
        assert said in result.stdout
    assert broken.returncode == 1
    assert re.match(r"refuted in this run: held-out perplexity .* of the teacher, .* of the student", broken.stderr)
    curves = {"growth": 12, "birth": 3, "learning": 3}
    assert {path.name for path in tmp_path.iterdir()} == {f"modulated_{each}.svg" for each in curves}
    for each, count in curves.items():
        drawn = (tmp_path / f"modulated_{each}.svg").read_text()
        ElementTree.fromstring(drawn)
        assert drawn.count("<polyline") == count
        shown = (FOLDER.parents[1] / f"docs/modulated_{each}.svg").read_text()  # of a run like this one
        assert re.findall(r'class="title".*', shown) == re.findall(r'class="title".*', drawn)
    assert "30 layers" in (tmp_path / "modulated_growth.svg").read_text()
    assert "products of layer 3, product overflow" in (tmp_path / "modulated_birth.svg").read_text()


@pytest.mark.parametrize("name", CASES)
def test_files_stay_small(name):
    assert len((FOLDER / name).read_text().splitlines()) <= 160


def test_the_table_has_a_row_for_each_case():
    rows = re.findall(r"^\| \[(\d)\]\((\S+)\) \|(.*)\|$", (FOLDER / "README.md").read_text(), re.M)
    assert [(number, name) for number, name, _ in rows] == [(name[5], name) for name in CASES]
    assert all(len(rest.split("|")) == 4 for *_, rest in rows)


def test_verdict():
    verdict, rng = CLAIMS["verdict"], np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 200)
    assert verdict(np.linspace(3, 2, 200) + noise) == "learning"
    assert verdict(np.linspace(2, 3, 200) + noise) == "diverging"
    assert verdict(np.full(200, 2.0)) == "flat"
    assert verdict([3.0, 1.0] * 9) == "insufficient evidence"
    assert verdict([*np.linspace(3, 2, 50), np.nan]) == "not finite"
    said = [verdict(rng.normal(size=40)) for _ in range(200)]
    assert said.count("flat") >= 197  # three standard deviations: 0.27 % of the rest


def test_a_claim_that_does_not_hold_raises_with_its_number(capsys):
    CLAIMS["claim"](True, "2 is even")
    assert capsys.readouterr().out == "  - 2 is even\n"
    with pytest.raises(CLAIMS["Refuted"], match="3 is even"):
        CLAIMS["claim"](False, "3 is even")
    with pytest.raises(CLAIMS["Refuted"], match="after 1"):
        CLAIMS["claim_learning"](np.linspace(1.1, 1.0, 50), at_most=0.5)
