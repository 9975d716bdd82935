"""A comparison from its plan to its end, and again after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from comparisons import finished, small_task

from loopos.compare import Comparison, rates, runner, tasks
from loopos.compare.follow import UPDATES
from loopos.compare.trial import CRASHED, ENDED, FINISHED, OUTCOME, Outcome, Trial

PROGRAM = """
import json, sys
from loopos.compare import Comparison, tasks
task = tasks.opened(json.loads(sys.argv[1]))
Comparison(task, ["adamw", "lion"], sys.argv[2], seeds=1, rates={"adamw": 0.01, "lion": 0.001}).run()
"""


def without_times(summary):
    """All of a table that is the same on every machine."""
    told = summary.to_dict()
    for row in told["optimizers"]:
        for name in ("seconds", "at_equal_time", "peak_bytes"):
            row.pop(name)
    for trial in told["trials"]:
        for name in ("seconds", "peak_bytes"):
            trial.pop(name)
    told.pop("equal_time_seconds")
    return told


def test_the_plan_is_written_and_one_that_goes_bad_ends_alone(done):
    comparison, told, summary = done
    plan = json.loads((comparison.folder / runner.PLAN).read_text())
    assert plan["task"] == tasks.saved(comparison.task)
    assert plan["rates"] == {"adamw": 0.003, "sgd": 1e30}
    assert plan["steps"] == 12
    by = {}
    for trial, outcome in summary.outcomes.items():
        by.setdefault(trial.optimizer, []).append(outcome.status)
    assert by == {"sgd": [ENDED] * 2, "adamw": [FINISHED] * 2}
    assert len(told) == 4
    assert told[0].startswith("sgd-1e+30-seed1337: ended after 1 updates: step 2, forward pass")  # and then the others
    assert told[1].startswith("adamw-0.003-seed1337: 12 updates, held-out loss ")


def test_what_is_done_is_kept_and_gives_the_same_table(done):
    comparison, _, summary = done
    told: list[str] = []
    again = replace(comparison, tell=told.append).run()
    assert all(": kept, " in line for line in told)
    assert again.to_dict() == summary.to_dict()


def test_batches_that_are_not_those_of_the_others_are_seen(done, tmp_path):
    comparison, _, _ = done
    folder = tmp_path / "copy"
    shutil.copytree(comparison.folder, folder)
    path = folder / runner.TRIALS / "adamw-0.003-seed1338" / UPDATES
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    path.write_text("\n".join([json.dumps(first | {"batch": "0" * 16}), *lines[1:]]) + "\n")
    found = replace(comparison, output_dir=folder).run()
    assert not found.same
    assert {row.verdict.kind for row in found.rows} == {"not judged", "ended"}


def test_another_comparison_in_the_same_folder_is_refused_and_more_seeds_are_not(done):
    comparison, _, _ = done
    other = small_task(comparison.task.data, batch_size=3)
    with pytest.raises(ValueError, match=r"differs in settings \(.*'batch_size': 2.*then.*'batch_size': 3.*now\)"):
        Comparison(other, ["sgd"], comparison.folder).run()
    plan = json.loads((comparison.folder / runner.PLAN).read_text())
    assert plan["task"]["settings"]["batch_size"] == 2


def test_a_kill_half_way_gives_the_same_table(text, tmp_path):
    task = small_task(text, max_steps=300)
    given = {"seeds": 1, "rates": {"adamw": 0.01, "lion": 0.001}}
    whole = Comparison(task, ["adamw", "lion"], tmp_path / "whole", **given).run()

    killed = tmp_path / "killed"
    command = [sys.executable, "-c", PROGRAM, json.dumps(tasks.saved(task)), str(killed)]
    process = subprocess.Popen(command, start_new_session=True)
    second = killed / runner.TRIALS / "lion-0.001-seed1337"
    deadline = time.monotonic() + 120
    while not list(second.glob("step-????????")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (second / OUTCOME).exists()
    left = (second / UPDATES).read_text().splitlines()
    saved = max(int(path.name[5:]) for path in second.glob("step-????????"))

    told: list[str] = []
    again = Comparison(task, ["adamw", "lion"], killed, tell=told.append, **given).run()
    assert told[0].startswith("adamw-0.01-seed1337: kept, 300 updates")
    assert without_times(again) == without_times(whole)
    kept = [line for line in left if json.loads(line)["step"] <= saved]
    assert (second / UPDATES).read_text().splitlines()[: len(kept)] == kept  # its times too: it was gone on from


def test_a_process_that_dies_takes_no_other_trial_along(text, tmp_path, monkeypatch):
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\necho out of luck >&2\nkill -9 $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(dying))
    found = Comparison(small_task(text), ["sgd", "lion"], tmp_path / "c", seeds=1, sweep=False).run()
    assert [row.verdict.says for row in found.rows] == [
        "crashed: the process ended with code -9: out of luck (seed 1337)"
    ] * 2
    monkeypatch.undo()
    again = Comparison(small_task(text), ["sgd"], tmp_path / "c", seeds=1, sweep=False).run()
    assert again.rows[0].verdict.kind == "one seed"  # what crashed is tried again


def swept(tmp_path, monkeypatch, losses):
    """The choice of a rate where a trial of the sweep has the loss that ``losses`` gives for its rate."""
    tried: list[Trial] = []

    def outcome(self, trial):
        tried.append(trial)
        loss = losses(trial.rate)
        return finished(2.0, eval_loss=loss) if loss is not None else Outcome(ENDED, 1)

    monkeypatch.setattr(Comparison, "_outcome", outcome)
    monkeypatch.setattr(Comparison, "_done", lambda self, trial: outcome(self, trial))
    (tmp_path / "t.txt").write_text("to be or not to be" * 50)
    comparison = Comparison(small_task(tmp_path / "t.txt", max_steps=200), ["adamw"], tmp_path / "c", seeds=1)
    return comparison.run(), [trial for trial in tried if trial.sweep]


def test_a_sweep_takes_the_best_and_is_short(tmp_path, monkeypatch):
    found, tried = swept(tmp_path, monkeypatch, lambda rate: abs(rate - 0.0032))
    assert [trial.rate for trial in tried] == rates.grid("adamw")
    assert {(trial.seed, trial.steps) for trial in tried} == {(1337, 40)}
    assert (found.rows[0].rate, found.rows[0].rate_from) == (0.0032, "sweep of 5")


def test_a_sweep_goes_beyond_its_edge_and_says_so(tmp_path, monkeypatch):
    found, tried = swept(tmp_path, monkeypatch, lambda rate: abs(rate - 0.032))
    assert [trial.rate for trial in tried][5:] == [0.032, 0.1]
    assert (found.rows[0].rate, found.rows[0].rate_from) == (0.032, "sweep of 7, 2 beyond the first grid")
    shutil.rmtree(tmp_path / "c")
    found, tried = swept(tmp_path, monkeypatch, lambda rate: -rate)
    assert len(tried) == 8
    assert found.rows[0].rate_from == "sweep of 8, 3 beyond the first grid, the best at its edge"


def test_a_sweep_at_a_plateau_takes_the_lowest_rate_and_says_so(tmp_path, monkeypatch):
    found, _ = swept(tmp_path, monkeypatch, lambda rate: 0.7 - rate / 10 if 0.0003 < rate < 0.01 else 0.9)
    assert (found.rows[0].rate, found.rows[0].rate_from) == (0.00032, "sweep of 5, the lowest of 3 within 1%")


def test_a_sweep_without_a_finite_rate(tmp_path, monkeypatch):
    found, tried = swept(tmp_path, monkeypatch, lambda rate: None)
    assert min(trial.rate for trial in tried) < min(rates.grid("adamw"))
    assert found.rows[0].verdict.says == "no rate of the sweep gave a finite held-out loss"


def test_arguments_are_checked(text, tmp_path):
    for changed, words in (({"seeds": 0}, "seeds"), ({"sweep_share": 0.0}, "sweep_share")):
        with pytest.raises(ValueError, match=words):
            Comparison(small_task(text), ["sgd"], tmp_path, **changed)
    with pytest.raises(ValueError, match="there are"):
        Comparison(small_task(text), [], Path("x"))
    assert CRASHED not in (FINISHED, ENDED)
