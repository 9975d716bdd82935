"""loopos compare."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from cli_runs import SMALL
from pages import blocks, run_page

from loopos.cli import build_parser, main
from loopos.cli.compare import SHARED, task_of
from loopos.run.settings import TrainSettings

PAGE = Path(__file__).resolve().parents[2] / "docs/comparing.md"
QUICK = [*SMALL, "--max-steps", "4", "--batch-size", "2", "--seeds", "1"]


def test_a_table_a_page_and_the_same_again(text, tmp_path, capsys):
    folder = tmp_path / "out"
    command = ["compare", text, "--optimizers", "sgd, lion", "--learning-rate", "sgd=0.3", "--no-sweep", *QUICK]
    assert main([*command, "--output-dir", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "0.3     given" in out
    assert "0.0003  usual" in out
    assert "one seed: no spread, no ranking" in out
    assert "same start and same batches in all 2 trials (seed 1337: weights " in out
    assert err.count("4 updates, held-out loss ") == 2
    for name in ("comparison.json", "summary.json", "comparison.html", "comparison.svg"):
        assert (folder / name).is_file()
    kept = json.loads((folder / "summary.json").read_text())
    assert main([*command, "--output-dir", str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err.count(": kept, ") == 2
    assert {name: told[name] for name in kept} == kept
    assert told["page"] == str(folder / "comparison.html")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--optimizers", "sgd,adagrad"], "must be one of 'adamw', 'adam', 'sgd', 'lion', 'muon'"),
        (["--learning-rate", "lion=1"], "'lion', which is not compared"),
        (["--seeds", "0"], "seeds"),
        (["--batch-size", "0"], "batch_size"),
        (["--subset", "0"], "subset"),
        (["--held-out", "0"], "nothing is held out"),
        (["--init", "nowhere", "--n-layer", "2"], "init brings the model's shape"),
    ],
)
def test_bad_input_is_one_sentence(text, tmp_path, capsys, given, words):
    assert main(["compare", text, "--max-steps", "2", "--output-dir", str(tmp_path / "out"), *given]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_command_of_the_page_is_understood():
    _, command = blocks(PAGE.read_text())[0]
    given = vars(build_parser().parse_args(shlex.split(command)[1:]))
    assert given["optimizers"] == "sgd,adam,adamw,lion,muon"
    task = task_of(given)
    assert task.data.endswith("/novel.txt")
    assert task.subset == 5000
    assert (task.settings["epochs"], task.settings["batch_size"]) == (5, 8)
    assert "max_steps" not in task.settings
    assert task.settings["weight_decay"] == 0.0
    assert task_of({}).settings["max_steps"] == 500


def test_what_all_trials_share_are_settings_of_train():
    assert set(SHARED) <= set(TrainSettings.__dataclass_fields__)


def test_the_rest_of_the_page_runs(text, tmp_path, monkeypatch):
    (tmp_path / "novel.txt").write_text(Path(text).read_text() * 3)
    first, _, rest = PAGE.read_text().partition("DATA is what")
    assert "--epochs 5" in first  # hours of training: understood above
    page = tmp_path / PAGE.name
    page.write_text(rest)
    monkeypatch.chdir(tmp_path)
    assert run_page(page, tmp_path) == 2
