"""The table of loopos eval --compare."""

from __future__ import annotations

import json

import pytest

import loopos
from loopos.cli import main

LINES = [{"question": f"{a} is", "choices": [b, "no"], "answer": 0} for a, b in (("up", "high"), ("down", "low"))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    base = loopos.Model(loopos.ModelConfig(256, 32, 1, 2, 32))
    base.save_pretrained(place / "base")
    text = "up is high. down is low. " * 20
    loopos.train(base, text, max_steps=100, learning_rate=0.01, progress=False).model.save_pretrained(place / "tuned")
    (place / "text.txt").write_text(text)
    (place / "choice.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    (place / "exact.jsonl").write_text(json.dumps({"prompt": "up is", "completion": "high. do"}))
    return place


def scored(folders, capsys, *arguments):
    file, metric, *rest = arguments
    models = [str(folders / "base"), str(folders / file), "--metric", metric, *rest]
    assert main(["eval", *models, "--compare", str(folders / "tuned"), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_accuracies_before_and_after(folders, capsys):
    told = scored(folders, capsys, "choice.jsonl", "choice")
    assert [model["accuracy"] for model in told["models"]] == [0.0, 1.0]
    (change,) = told["differences"]
    assert change["accuracy"]["value"] == 1
    assert change["accuracy"]["interval"]["high"] == 1
    assert told["difference_method"].startswith("Bonett-Price")


def test_answers_before_and_after(folders, capsys):
    told = scored(folders, capsys, "exact.jsonl", "exact", "--max-new-tokens", "9")
    assert [model["accuracy"] for model in told["models"]] == [0.0, 1.0]
    assert told["models"][1]["answers"] == [" high. do"]


def test_losses_before_and_after(folders, capsys):
    told = scored(folders, capsys, "text.txt", "perplexity")
    before, after = (model["loss"] for model in told["models"])
    assert told["differences"][0]["loss"]["value"] == pytest.approx(after - before)
    assert told["differences"][0]["loss"]["interval"]["high"] < -1


def test_the_table_for_a_person(folders, capsys):
    models = [str(folders / "base"), str(folders / "choice.jsonl"), "--compare", str(folders / "tuned")]
    assert main(["eval", *models, "--metric", "choice"]) == 0
    head, base, tuned, method = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "accuracy", "accuracy_norm", "difference", "from", "the", "first"]
    assert "0.0 % (0.0 to 65.8)" in base
    assert "accuracy +100.0 points (" in tuned
    assert method == "intervals of differences: Bonett-Price, paired, 95 %"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{base}", "--compare", "{tuned}"], "compare needs the file that all the models are scored on"),
        (["{base}", "--metric", "choice"], "the metric 'choice' needs a FILE of JSON lines"),
        (["{base}", "{choice}", "--metric", "choice", "--seq-len", "4"], "seq_len is nothing that the metric"),
        (["{base}", "{text}", "--max-new-tokens", "4"], "max_new_tokens is nothing that the metric 'perplexity' reads"),
        (["{base}", "{text}", "--metric", "choice"], "text.txt, line 1: not JSON"),
        (["{base}", "{text}", "--compare", "{short}"], "in other windows, so their losses cannot be compared"),
    ],
)
def test_what_cannot_be_compared_is_refused(folders, arguments, says, capsys):
    loopos.Model(loopos.ModelConfig(256, 8, 1, 2, 32)).save_pretrained(folders / "short")
    places = {name: str(folders / name) for name in ("base", "tuned", "short")}
    places |= {"choice": str(folders / "choice.jsonl"), "text": str(folders / "text.txt")}
    assert main(["eval", *(each.format(**places) for each in arguments)]) == 2
    assert says in capsys.readouterr().err
