"""loopos train --dry-run, and the forecast before a run."""

from __future__ import annotations

import json

from cli_runs import TRAIN

from loopos.cli import main


def test_a_dry_run_tells_and_trains_nothing(text, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", text, *TRAIN, "--dry-run", "--output-dir", str(run), "--no-progress"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("forecast: memory about ")
    assert "(3 updates of " in out
    assert not run.exists()


def test_a_run_tells_it_first_and_json_has_it(text, capsys):
    assert main(["train", text, *TRAIN]) == 0
    assert "forecast: memory about " in capsys.readouterr().err
    assert main(["train", text, *TRAIN, "--json", "--no-progress"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["event"] == "forecast"
    assert first["updates"] == 3
    assert first["memory_bytes"]["peak"] > first["memory_bytes"]["now"] > 0
