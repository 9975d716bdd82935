"""--json: every command of the table prints JSON on stdout and nothing else there, also when it fails."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cli_runs import SMALL, TRAIN

import loopos.gguf
from loopos.bench import suites
from loopos.cli import COMMANDS, STREAMING, build_parser, main
from loopos.cli.reply import plain, to_json
from loopos.monitor.monitor import Alarm
from loopos.monitor.watch import Watch
from loopos.run.updates import Updater

PAGE = Path(__file__).resolve().parents[2] / "docs/json.md"
TINY = ["--setting", "nano", "--peers", "loopos", "--rounds", "1", "--steps", "1"]
GOOD = {  # command: its arguments, and keys of what comes; {text}, {run}, {broken}: a file and folders
    "train": (["{text}", *TRAIN, "--no-progress"], {"step", "loss", "verdict", "findings", "output_dir"}),
    "caption": (
        ["--subset=60", "--max-steps=2", "--batch-size=4", "--no-progress", "--output-dir={folder}/captions"],
        {"exact", "samples", "sheet", "step", "loss", "output_dir"},
    ),
    "classify": (
        ["--max-steps=2", "--batch-size=4", "--no-progress", "--output-dir={folder}/classes"],
        {"accuracy", "step", "loss", "output_dir"},
    ),
    "compare": (
        ["{text}", *SMALL, "--max-steps", "2", "--no-sweep", "--seeds", "1", "--output-dir", "{folder}/compared"],
        {"optimizers", "alike", "rule", "trials", "page", "picture"},
    ),
    "launch": (["--hosts", "a,b", "--print", "--", "train"], {"command"}),
    "covariance": (["demo", "--max-steps", "0"], {"reported", "failure", "repaired", "refusal"}),
    "eval": (["{run}"], {"loss", "perplexity", "tokens"}),
    "generate": (["{run}", "--max-new-tokens", "4"], {"text", "completion", "ids", "new_tokens"}),
    "chat": (["{chatting}", "--max-new-tokens", "4"], {"answers"}),
    "serve": (["{run}"], {"served"}),
    "import": (["{gguf}", "{folder}/imported"], {"path", "kind", "tokens", "parameters"}),
    "export": (["{run}", "{folder}/exported"], {"path", "kind", "tokens", "parameters"}),
    "gradcheck": ([], {"passed", "max_error", "results"}),
    "doctor": (["{text}", *SMALL, "--quick"], {"ok", "checks", "seconds"}),
    "explain": (["loss=nan"], {"causes", "findings", "doubts", "facts"}),
    "replay": (["{broken}", "--why"], {"reproduced", "step", "birth", "why"}),
    "diff": (["{run}", "{run}"], {"same", "step", "fields"}),
    "report": (["{run}"], {"path"}),
    "bench": (["steps", *TINY], {"results"}),
    "info": (["{run}"], {"kind", "updates", "parameters", "d_model"}),
}
LLAMA_LIKE = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False}
BAD = {  # arguments that end with exit code 2
    "train": ["no-such-file.txt"],
    "caption": ["no-such-folder"],
    "classify": ["no-such-folder"],
    "covariance": ["eval", "no-such-folder"],
    "gradcheck": ["--n-layer", "0"],
    "compare": ["no-such-file.txt"],
    "doctor": ["no-such-file.txt"],
    "explain": ["no-such-file.log"],
    "import": ["no-such-file.gguf", "no-such-folder"],
    "export": ["no-such-folder", "out.gguf"],
    "diff": ["no-such-folder", "no-such-folder"],
    "bench": ["show"],
}


@pytest.fixture(scope="module")
def places(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run, broken = str(folder / "run"), str(folder / "broken")
    assert main(["train", text, *TRAIN, "--no-progress", "--output-dir", run]) == 0
    options = {"batch_size": 2, "max_steps": 3, "progress": False, "output_dir": broken, "learning_rate": 1e38}
    with pytest.raises(loopos.NonFiniteError):
        loopos.train(loopos.ModelConfig(256, 16, 1, 2, 16), Path(text), **options)
    chatting, gguf = str(folder / "chatting"), str(folder / "tiny.gguf")
    return {"text": text, "run": run, "broken": broken, "folder": str(folder), "gguf": gguf, "chatting": chatting}


def make_chatting(folder):
    """A folder whose tokenizer has a chat template."""
    pytest.importorskip("tokenizers", reason="the extra [hf]")
    model = loopos.Model(loopos.ModelConfig(260, 16, 1, 2, 16))
    model.tokenizer = loopos.Tokenizer.train("to be or not to be " * 9, 260)
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    model.save_pretrained(folder)


def objects(out: str) -> list[dict]:
    """Every line of stdout, which must be strict JSON."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in out.splitlines()]


def test_every_command_of_the_table_is_tried():
    assert set(GOOD) == set(COMMANDS)


def test_the_documents_tell_the_keys_of_every_command():
    page = PAGE.read_text()
    for command, (_, keys) in GOOD.items():
        (row,) = re.findall(rf"^\| `{command}` \| (.*) \|$", page, re.M)
        told = set(re.findall(r"`(\w+)`", row))
        assert keys <= told or command == "info", command  # info: whatever the configuration has


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_json_alone(command, places, capsys, monkeypatch):
    arguments, keys = GOOD[command]
    if command == "chat":
        make_chatting(places["chatting"])
        monkeypatch.setattr("sys.stdin", io.StringIO("to be\n"))
    if command == "serve":  # a server that nobody ends has tests of its own
        pytest.importorskip("starlette", reason="the extra [serve]")
        monkeypatch.setattr("loopos.serve.server.serve", lambda *_, **__: None)
    if command == "launch":
        pytest.importorskip("mpi4py", reason="the extra [mpi]")
    if command == "classify":
        pytest.importorskip("sklearn", reason="the extra [sklearn]")
    if command == "import":
        pytest.importorskip("gguf", reason="the extra [gguf]")
        loopos.gguf.write(loopos.Model(loopos.ModelConfig(256, 16, 1, 2, 16, **LLAMA_LIKE)), places["gguf"])
    given = [each.format(**places) for each in arguments]
    code = main([command, "--json", *given] if command == "launch" else [command, *given, "--json"])
    *lines, last = objects(capsys.readouterr().out)
    assert code in (0, 1)
    assert keys <= set(last)
    assert not lines or command in STREAMING


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_is_json_with_the_exit_code_of_the_process(command, capsys):
    code = main([command, *BAD.get(command, ["no-such-folder"]), "--json"])
    said = capsys.readouterr()
    (only,) = objects(said.out)
    assert code == only["error"]["exit_code"] == 2
    assert only["error"]["message"] in said.err
    assert only["error"]["type"] != ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_line_that_cannot_be_is_json_too(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--json", "--no-such-flag"])
    (only,) = objects(capsys.readouterr().out)
    assert stopped.value.code == only["error"]["exit_code"] == 2


def test_a_line_of_the_history_is_out_before_the_next_update(places, monkeypatch):
    class Reader(io.StringIO):
        told = ""

        def flush(self):
            self.told = self.getvalue()

    reader, seen = Reader(), []

    def update(updater, t, rate):
        seen.append(sum(line["event"] == "log" for line in objects(reader.told)))
        return once(updater, t, rate)

    once = Updater.__call__
    monkeypatch.setattr(Updater, "__call__", update)
    monkeypatch.setattr("sys.stdout", reader)
    assert main(["train", places["text"], *TRAIN, "--log-every", "1", "--no-progress", "--json"]) == 0
    assert seen == [0, 1, 2]


def test_what_the_monitor_finds_is_a_line(places, monkeypatch, capsys):
    alarm = Alarm(2, "loss", 9.0, "5 or less", "loss 9 where 5 or less was to be expected")
    monkeypatch.setattr(Watch, "after", lambda self, step, *_: [alarm] if step == 2 else [])
    assert main(["train", places["text"], *TRAIN, "--no-progress", "--json"]) == 0
    lines = objects(capsys.readouterr().out)
    assert [line for line in lines if line["event"] == "finding"] == [{"event": "finding"} | vars(alarm)]


def test_the_documents_tell_the_events_of_train(tmp_path, capsys):
    (told,) = re.findall(r"^\| `train` \| (.*) \|$", PAGE.read_text(), re.M)
    (tmp_path / "a.jsonl").write_text('{"prompt": "1", "completion": "2"}\n' * 20)
    assert main(["train", str(tmp_path / "a.jsonl"), *TRAIN, "--no-progress", "--json"]) == 0
    assert {line["event"] for line in objects(capsys.readouterr().out)} <= set(re.findall(r"`(\w+)`", told))


def test_a_run_that_sigterm_ends_says_so(places, monkeypatch, capsys):
    def stopped(*_, **__):
        raise SystemExit(143)

    monkeypatch.setattr("loopos.train", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["train", places["text"], *TRAIN, "--no-progress", "--json"])
    (only,) = objects(capsys.readouterr().out)
    assert ended.value.code == only["error"]["exit_code"] == 143


def test_train_prints_its_history(places, capsys):
    assert main(["train", places["text"], *TRAIN, "--log-every", "1", "--json"]) == 0
    said = capsys.readouterr()
    lines = objects(said.out)
    history = [line for line in lines if line["event"] == "log"]
    assert [line["step"] for line in history] == [1, 2, 3]
    assert lines[-1]["event"] == "result"
    assert lines[-1]["loss"] == history[-1]["loss"]
    assert "verdict: " in said.err


def test_a_number_that_is_not_finite_has_its_birth(places, capsys):
    assert main(["train", places["text"], *TRAIN, "--learning-rate", "1e38", "--no-progress", "--json"]) == 3
    last = objects(capsys.readouterr().out)[-1]
    assert last["error"]["exit_code"] == 3
    assert {"step", "phase", "op", "tensor", "cause"} <= set(last["error"]["birth"])


def test_bench_writes_a_file_or_prints(tmp_path, capsys):
    path = tmp_path / "steps.json"
    assert main(["bench", "steps", *TINY, "--json", str(path)]) == 0
    assert "nano" in capsys.readouterr().out
    assert main(["bench", "show", str(path), "--json"]) == 0
    (only,) = objects(capsys.readouterr().out)
    assert only["results"][0]["format"] == suites.FORMAT


def test_the_flag_stands_in_every_help():
    parsers = build_parser()._subparsers._group_actions[0].choices
    assert all("--json" in parser.format_help() for parser in parsers.values())


@dataclass
class Thing:
    name: str
    numbers: tuple


class Pair(NamedTuple):
    left: float
    right: float


def test_values_become_strict_json():
    assert plain(Thing("a", (1, np.float32(0.5)))) == {"name": "a", "numbers": [1, 0.5]}
    assert plain(Pair(math.nan, math.inf)) == {"left": None, "right": None}
    assert plain({1: np.array([1, 2]), "path": Path("a")}) == {"1": [1, 2], "path": "a"}
    assert json.loads(to_json({"e": "é", "n": [math.nan]})) == {"e": "é", "n": [None]}
