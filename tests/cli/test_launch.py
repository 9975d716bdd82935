"""loopos launch: trainings on several processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from under_mpi import mpi_needed

import loopos
from loopos.cli import main

SMALL = ["--n-layer", "1", "--d-model", "16", "--n-head", "2", "--context-length", "8", "--max-steps", "4"]
SMALL += ["--batch-size", "4", "--shards", "2", "--sample", "0", "--no-doctor", "--no-progress"]


@mpi_needed
def test_the_command_is_printed(capsys):
    assert main(["launch", "--hosts", "a,b", "--print", "--", "train", "x.txt"]) == 0
    words = capsys.readouterr().out.split()
    assert words[1:5] == ["-hosts", "a:1,b:1", "-n", "2"]
    assert words[-4:] == ["-m", "loopos", "train", "x.txt"]


@mpi_needed
def test_what_is_no_training_is_refused(capsys):
    assert main(["launch", "-n", "2", "--", "info"]) == 2
    said = capsys.readouterr().err
    known = "train, doctor, caption, classify, covariance"
    assert f"after -- comes a command that runs on several processes, {known}, got ['info']" in said
    assert main(["launch", "-n", "0", "--", "train"]) == 2
    assert "n must be an integer of at least 1" in capsys.readouterr().err
    for hosts in ("", ",", "a,,b"):  # a variable of a script that is not set, perhaps: not one process here
        assert main(["launch", "--hosts", hosts, "--print", "--", "train"]) == 2
        assert f"hosts must be names or addresses with commas between them, got {hosts!r}" in capsys.readouterr().err


@mpi_needed
@pytest.mark.parametrize("hosts", [[], ["--hosts", "localhost"]])
def test_two_ranks_train_what_one_does(hosts, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question " * 20)
    root = Path(loopos.__file__).parents[1]

    def run(*command):
        asked = [sys.executable, "-m", "loopos", *command]
        return subprocess.run(asked, cwd=root, capture_output=True, text=True, timeout=100, check=True)

    two, one = tmp_path / "two", tmp_path / "one"
    done = run("launch", "-n", "2", *hosts, "--", "train", str(text), *SMALL, "--output-dir", str(two))
    run("train", str(text), *SMALL, "--output-dir", str(one))
    assert done.stdout.count("updates 4") == 1  # one rank speaks
    weights = [folder / "step-00000004" / "model.safetensors" for folder in (one, two)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    lines = [json.loads(line)["loss"] for line in (two / "metrics.jsonl").read_text().splitlines()]
    assert lines == [json.loads(line)["loss"] for line in (one / "metrics.jsonl").read_text().splitlines()]


@mpi_needed
def test_sigterm_to_it_reaches_the_ranks_and_is_saved_once(tmp_path):
    text, run = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("to be or not to be, that is the question " * 20)
    endless = ["--max-steps", "1000000", "--save-every", "5", "--output-dir", str(run)]
    command = [sys.executable, "-m", "loopos", "launch", "-n", "2", "--", "train", str(text), *SMALL, *endless]
    root = Path(loopos.__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            until = time.monotonic() + 60
            while not list(run.glob("step-????????")):
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert err.count("training was stopped by SIGTERM after update") == 1
    assert process.returncode == 143
    last = sorted(run.glob("step-????????"))[-1].name
    assert f"after update {int(last.removeprefix('step-'))}." in err
