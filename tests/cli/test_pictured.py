"""What loopos caption and loopos classify share: forecast, checks before the run, and what is noted in its folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import loopos
from loopos.cli import main, pictured
from loopos.errors import CheckpointError
from loopos.vision import Captioner

RUN = ["caption", "--subset", "60", "--max-steps", "2", "--batch-size", "4", "--scored", "2"]


def test_a_dry_run_tells_and_trains_nothing(tmp_path, capsys):
    where = ["--output-dir", str(tmp_path / "run"), "--no-progress", "--dry-run"]
    assert main([*RUN, *where]) == 0
    out = capsys.readouterr().out
    assert out.startswith("forecast: memory about ")
    assert "pictures " in out
    assert "(2 updates of " in out
    assert not (tmp_path / "run").exists()
    assert main([*RUN, *where, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["event"] == "forecast"
    assert told["memory_bytes"]["activations"] > told["memory_bytes"]["pictures"] > 0
    assert told["updates"] == 2


def test_a_run_tells_it_first_and_is_examined(tmp_path, capsys):
    assert main([*RUN, "--output-dir", str(tmp_path / "run"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "forecast: memory about " in err
    assert err.count("doctor: ") == 1
    assert "WARN" not in err
    assert json.loads(out)["forecast"]["updates"] == 2
    names = [check["name"] for check in json.loads((tmp_path / "run" / "doctor.json").read_text())["checks"]]
    assert {"initial loss", "picture matters", "picture visible", "gradient reaches"} <= set(names)


def test_problems_are_told_and_the_run_goes_on(tmp_path, capsys):
    given = ["--output-dir", str(tmp_path / "run"), "--learning-rate", "3", "--warmup-steps", "0"]
    assert main([*RUN, *given]) == 0
    out, err = capsys.readouterr()
    assert "FAIL updates: " in err
    assert "updates 2" in out


def test_without_the_doctor_the_bits_are_the_same(tmp_path, capsys):
    states = []
    for flags in ([], ["--no-doctor"], ["--no-progress"]):
        run = tmp_path / "-".join(["run", *flags])
        capsys.readouterr()
        assert main([*RUN, "--output-dir", str(run), *flags]) == 0
        assert ("doctor: " in capsys.readouterr().err) == (not flags)
        states.append(Captioner.load(run).state_dict())
    assert all((view == other[name]).all() for other in states[1:] for name, view in states[0].items())


def test_what_a_run_was_trained_on_is_noted(tmp_path):
    assert main([*RUN, "--output-dir", str(tmp_path / "run"), "--no-progress"]) == 0
    noted = pictured.noted(tmp_path / "run")
    assert (noted["data"], noted["subset"], noted["preset"]) == ("shapes", 60, "tiny")
    assert pictured.noted(next((tmp_path / "run").glob("step-*"))) == noted
    assert pictured.noted(tmp_path) is None
    (tmp_path / "run" / pictured.NAME).write_text("[]")
    with pytest.raises(CheckpointError, match="an object with data"):
        pictured.noted(tmp_path / "run")


def test_schedules_that_nobody_asks_for():
    settings = {"learning_rate": 0.01}
    told = pictured.with_schedule(settings, {"epochs": 2}, 700)
    assert told == {"learning_rate": 0.01, "epochs": 2, "warmup_steps": 100, "min_lr": 0.001}
    assert pictured.with_schedule(settings | {"max_steps": 30}, {"epochs": 2}, 7)["warmup_steps"] == 3
    assert settings == {"learning_rate": 0.01}


MEASURE = """
import contextlib, io, json, sys
from loopos.cli import main
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    assert main([*sys.argv[1:], "--json"]) == 0, printed.getvalue()
told = json.loads(printed.getvalue())["forecast"]["memory_bytes"]["peak"]
peak = int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) * 1024
print(told / peak)
"""


@pytest.mark.unsanitized("the sanitizers' allocator takes memory of its own")
@pytest.mark.parametrize(
    "given",
    [
        "caption --subset 200",
        "caption --subset 200 --fusion cross --no-doctor",
        "caption --digits",
        "classify",
        "classify --no-doctor",
    ],
)
def test_the_peak_is_told_within_12_percent(given, tmp_path):
    """Of small sets, too, beside which the doctor's copies and what draws the last sheet count."""
    if "--subset" not in given:
        pytest.importorskip("sklearn", reason="the digits are its")
    command = [sys.executable, "-c", MEASURE, *given.split(), "--max-steps", "3", "--output-dir", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=Path(loopos.__file__).parents[1])
    assert run.returncode == 0, run.stderr
    assert 0.88 < float(run.stdout) < 1.12
