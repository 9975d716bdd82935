"""loopos explain on the command line; diff and report are in tests/health."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

import loopos
from loopos.cli import main

LINE = "{'loss': 0.0, 'grad_norm': nan, 'learning_rate': 0.00018, 'epoch': 0.31}"


class Stdin:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


def test_explain_reads_a_text_a_file_and_standard_input(tmp_path, capsys, monkeypatch):
    path = tmp_path / "train.log"
    path.write_text(LINE)
    monkeypatch.setattr("sys.stdin", Stdin(LINE.encode()))
    for what in (LINE, str(path), "-"):
        assert main(["explain", what]) == 0
        assert "logging_nan_inf_filter" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_not_taken_for_a_text(capsys):
    assert main(["explain", "no-such.log"]) == 2
    assert "no such file: no-such.log" in capsys.readouterr().err
    assert main(["explain", "loss=nan"]) == 0


@pytest.mark.parametrize("data", [b"", b"\x00\xff\xfe" * 999, "âœ…".encode("cp1252", "replace")])
def test_any_standard_input_is_no_crash(data, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Stdin(data))
    assert main(["explain", "-"]) == 0


def test_explain_is_exported_and_loaded_only_when_used():
    code = (
        "import sys, loopos; before = 'loopos.health.explain' in sys.modules\n"
        "print(before, loopos.explain('loss -nan').causes[0], callable(loopos.explain))"
    )
    beside = Path(loopos.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=beside)
    assert run.stdout.split() == ["False", "invalid-operation", "True"], run.stderr
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        _ = loopos.explian
