"""loopos doctor: its lines, its JSON, its exit codes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from cli_runs import SMALL, TRAIN

from loopos.cli import main
from loopos.run import forecast


def test_doctor_prints_a_line_a_check(text, capsys):
    assert main(["doctor", text, *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok   batches: ")
    assert lines[-2].startswith("doctor: ")
    assert "checks passed" in lines[-2]
    assert lines[-1].startswith("forecast: memory about ")
    assert "(2000 updates of " in lines[-1]


def test_doctor_as_json(text, capsys):
    assert main(["doctor", text, *SMALL, "--quick", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["quick"] is True
    assert {"name", "measured", "expected", "verdict", "advice", "figures"} == set(report["checks"][0])
    assert set(report["forecast"]) == {"memory_bytes"}  # without updates there is no time to tell
    assert report["forecast"]["memory_bytes"]["peak"] > 0


@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_a_run_that_does_not_fit_in_memory_fails(quick, text, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "_core", SimpleNamespace(available_bytes=lambda: 1))
    assert main(["doctor", text, *SMALL, *quick, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert "are available; lower batch_size or seq_len" in report["forecast"]["refused"]


def test_a_failure_is_exit_code_1(text, capsys):
    assert main(["doctor", text, *SMALL, "--learning-rate", "100"]) == 1
    out = capsys.readouterr().out
    assert "FAIL updates: " in out
    assert "a smaller learning_rate" in out
    assert "forecast" not in out


def test_bad_input_is_exit_code_2(text, capsys):
    assert main(["doctor", text, *SMALL, "--learning-rate", "-1"]) == 2
    assert main(["doctor", "missing.txt"]) == 2
    with pytest.raises(SystemExit):
        main(["doctor", text, "--no-such-flag"])


def test_a_saved_model_is_examined(text, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["train", text, *TRAIN, "--no-progress", "--output-dir", run]) == 0
    assert main(["doctor", text, "--init", run, "--quick"]) == 0
