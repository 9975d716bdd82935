"""The command line on examples: train, eval, doctor."""

from __future__ import annotations

import json

import pytest
from cli_runs import SMALL, TRAIN

import loopos
from loopos.cli import main
from loopos.cli.commands import prepare
from loopos.run.checkpoint import load_checkpoint

RECORDS = [{"prompt": f"{n}=", "completion": f"{n + 1}."} for n in range(20)]
EVAL = RECORDS[-2:]


def written(path, records=RECORDS):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.jsonl")
    assert main(["train", "a.jsonl", *TRAIN, "--output-dir", "run", "--no-progress"]) == 0
    return "run"


def test_an_audit_that_was_not_printed_is_kept(run, tmp_path):
    assert json.loads((tmp_path / run / "audit.json").read_text())["examples"] == 18  # the last tenth is held out


def losses(arguments, capsys):
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def expected(folder, records):
    """The mean loss of the answers, one by one."""
    model, total, count = loopos.Model.from_pretrained(folder), 0.0, 0
    for record in records:
        source = loopos.data.open_sources([record], vocab_size=256, context_length=16, pack=False, batch_size=1).train
        ids, targets = source.batch(0)
        valid = int((targets != -100).sum())
        total, count = total + valid * model.loss(ids, targets), count + valid
    return total / count, count


def test_the_last_tenth_is_held_out(run, capsys):
    found = losses(["eval", run], capsys)
    loss, count = expected(run, EVAL)
    assert found["tokens"] == count
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["data"].startswith("the last 0.1 of ")
    assert losses(["eval", run, "a.jsonl"], capsys)["tokens"] == expected(run, RECORDS)[1]


def test_examples_that_have_changed_are_not_scored_as_held_out(run, tmp_path, capsys):
    written(tmp_path / "a.jsonl", [*RECORDS[1:], RECORDS[0]])
    assert main(["eval", run]) == 2
    assert "not what run was trained on any more" in capsys.readouterr().err


def test_a_folder_has_its_own_held_out_examples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "train.jsonl")
    written(tmp_path / "valid.jsonl", EVAL)
    assert main(["train", ".", *TRAIN, "--output-dir", "run", "--no-progress"]) == 0
    assert "held-out loss" in capsys.readouterr().out
    assert losses(["eval", "run"], capsys)["tokens"] == expected("run", EVAL)[1]
    assert (
        loopos.train(loopos.ModelConfig(256, 16, 1, 2, 16), ".", max_steps=3, batch_size=2, progress=False).best[
            "eval_loss"
        ]
        > 0
    )


def test_flags_reach_the_training(run):
    state = load_checkpoint("run").state
    assert (state["data"]["packed"], state["data"]["mask_prompt"]) == (True, True)
    assert state["data"]["length"] == 18
    arguments = ["train", "a.jsonl", *TRAIN, "--output-dir", "other", "--no-progress", "--no-pack", "--no-mask-prompt"]
    assert main(arguments) == 0
    state = load_checkpoint("other").state
    assert (state["data"]["packed"], state["data"]["mask_prompt"]) == (False, False)


def test_a_model_that_is_there_has_other_defaults(run, tmp_path):
    tuned = prepare({"text": "a.jsonl", "init": run, "held_out": 0.0})
    assert {name: tuned.settings[name] for name in ("epochs", "batch_size", "learning_rate", "seq_len")} == {
        "epochs": 3,
        "batch_size": 2,
        "learning_rate": 1e-4,
        "seq_len": 16,
    }
    assert tuned.settings.get("max_steps") is None
    rows = loopos.data.open_sources(RECORDS, vocab_size=256, context_length=16, batch_size=2).train
    assert tuned.settings["warmup_steps"] == 3 * rows.steps_per_epoch // 10
    assert prepare({"text": "a.jsonl", "init": run, "max_steps": 7}).settings.get("epochs") is None
    new = prepare({"text": "a.jsonl", "context_length": 16, "n_layer": 1, "n_head": 2, "d_model": 16})
    assert new.settings["max_steps"] == 2000


def test_the_doctor_looks_at_examples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.jsonl", [*RECORDS, {"prompt": "a", "completion": ""}])
    main(["doctor", "a.jsonl", "--quick", *SMALL, "--held-out", "0", "--max-steps", "20"])
    out = capsys.readouterr().out
    assert "examples are learned, 1 rows have nothing to learn" in out
    assert "line 21 of a.jsonl" in out


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"txt": "a"}], "a.jsonl), line 1: expected"),
        ([{"prompt": "x" * 40, "completion": "y"}] * 20, "nothing is left to learn in any of 18 examples"),
        ([{"messages": [{"role": "user", "content": "a"}]}], "messages need a tokenizer with a chat template"),
    ],
)
def test_bad_examples_are_one_sentence(tmp_path, monkeypatch, capsys, records, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.jsonl", records)
    assert main(["train", "a.jsonl", *TRAIN, "--no-progress"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_settings_of_another_type(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.jsonl")
    (tmp_path / "run.toml").write_text('text = "a.jsonl"\npack = 1\n')
    assert main(["train", "--config", "run.toml", *TRAIN]) == 2
    assert "pack must be True or False" in capsys.readouterr().err


def test_the_audit_is_a_line_of_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.jsonl")
    assert main(["train", "a.jsonl", *TRAIN, "--no-progress", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (audit,) = [line for line in lines if line["event"] == "audit"]
    assert (audit["examples"], audit["empty_rows"]) == (18, 0)
