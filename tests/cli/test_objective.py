"""loopos train with a teacher, pairs and classes, and how they are refused."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

import loopos
from loopos.cli import main, objective
from loopos.run.checkpoint import load_checkpoint

TEXT = "to be, or not to be, that is the question. " * 30
SHAPE = ["--n-layer", "1", "--n-head", "2", "--d-model", "16", "--max-steps", "3", "--no-progress"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    loopos.Model(loopos.ModelConfig(256, 64, 1, 2, 16)).save_pretrained("base")
    return tmp_path


def result_of(capsys, *arguments):
    assert main(["train", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_teacher_that_is_a_folder(folder, capsys):
    told = result_of(capsys, "text.txt", *SHAPE, "--distill", "base", "--distill-loss", "mse", "--output-dir", "run")
    assert told["step"] == 3
    settings = load_checkpoint(folder / "run").state["settings"]
    assert settings["teacher"] == "model"
    assert settings["distill"] == asdict(loopos.Distill("mse"))


def test_a_model_teaches_its_adapter(folder, capsys):
    (folder / "run.toml").write_text('[objective]\ndistill = "self"\ndistill_temperature = 2.0\n')
    more = ["--init", "base", "--lora-rank", "2", "--max-steps", "2", "--no-progress", "--sample", "0"]
    told = result_of(capsys, "text.txt", "--config", "run.toml", *more)
    assert told["loss"] == 0.0  # an adapter at its start is its teacher


def test_pairs(folder, capsys):
    rows = [{"prompt": f"q{i}:", "chosen": "yes", "rejected": "no"} for i in range(10)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told = result_of(capsys, "pairs.jsonl", *SHAPE, "--task", "dpo", "--reference", "base")
    assert told["loss"] > 0
    more = ["--init", "base", "--lora-rank", "2", "--max-steps", "2", "--no-progress"]
    assert main(["train", "pairs.jsonl", "--task", "dpo", *more]) == 0
    assert "the chosen answer preferred in" in capsys.readouterr().out


def test_classes(folder, capsys):
    rows = [{"text": f"{'a' if i % 2 else 'b'} {i}", "kind": "yes" if i % 2 else "no"} for i in range(20)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["rows.jsonl", *SHAPE, "--task", "classify", "--label-column", "kind"]
    told = result_of(capsys, *arguments)
    assert told["classes"]["labels"] == ["no", "yes"]
    assert main(["train", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "perplexity" not in printed
    assert "    no yes" in printed


def test_table():
    said = objective.table({"labels": ["a", "long"], "accuracy": 0.75, "confusion": [[10, 2], [0, 3]]})
    assert said.splitlines()[1:] == ["        a long", "   a   10    2", "long    0    3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--distill-loss", "mse"], "distill_loss without distill: whose answers are learned must be given"),
        (["--distill", "self"], "teacher='self' is the model without its adapter, and it has none"),
        (["--distill", "base", "--reference", "base"], "distill and reference are two tasks"),
        (["--distill", "nowhere"], "nowhere"),
        (["--distill", "base", "--distill-temperature", "0"], "temperature must be"),
        (["--task", "dpo", "--reference", "base"], "task='dpo' learns of examples"),
        (["--task", "classify"], "task='classify' learns of examples"),
    ],
)
def test_refusals(folder, capsys, arguments, message):
    assert main(["train", "text.txt", *SHAPE, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_what_writes_text_refuses_a_classifier(folder, capsys):
    loopos.Model(loopos.ModelConfig(256, 64, 1, 2, 16)).with_labels(("no", "yes")).save_pretrained("classes")
    for command in (["generate", "classes"], ["eval", "classes", "text.txt"], ["chat", "classes"]):
        assert main(command) == 2
        assert f"{command[0]}: this model gives scores of 2 classes, no next token" in capsys.readouterr().err
    assert main(["train", "text.txt", "--init", "classes", "--max-steps", "1", "--no-progress"]) == 2
    assert (
        "this model gives scores of 2 classes and no next token; task='classify' trains it" in capsys.readouterr().err
    )


def test_the_doctor_examines_them(folder, capsys):
    rows = [{"prompt": f"q{i}:", "chosen": "yes", "rejected": "no"} for i in range(10)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for asked, said in (
        (["pairs.jsonl", "--task", "dpo", "--lora-rank", "2"], "ok   initial loss: 0.693147 nats"),
        (["text.txt", "--distill", "base"], "a target costs the teacher"),
    ):
        assert main(["doctor", *asked, "--init", "base", "--quick"]) == 0
        assert said in capsys.readouterr().out
    assert (
        main(["train", "pairs.jsonl", "--task", "dpo", "--init", "base", "--lora-rank", "2", "--max-steps", "2"]) == 0
    )
    assert "doctor: " in capsys.readouterr().err
