"""The command line: what it refuses before the training, what it remembers of a run, and how it says so."""

import io
import shutil
import signal
import sys

import pytest
from cli_runs import SMALL

import loopos
from loopos.cli import main
from loopos.files.durable import load_json

QUICK = [*SMALL, "--max-steps", "2", "--batch-size", "2", "--no-progress", "--sample", "0"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question.\n" * 40)
    return path


@pytest.fixture
def no_training(monkeypatch):
    def never(*_, **__):
        raise AssertionError("the training began")

    monkeypatch.setattr(loopos, "train", never)


def refused(capsys, *arguments):
    """The sentence after the command's name."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix(f"loopos {arguments[0]}: ")


# What was trained on


def test_eval_scores_what_was_held_out_of_the_run_s_own_text(text, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    assert main(["train", "text.txt", *QUICK, "--held-out", "0.2", "--output-dir", str(run)]) == 0
    trained = capsys.readouterr().out.partition("held-out ")[2].partition(";")[0]
    assert load_json(run / "cli.json") == {"text": str(text), "held_out": 0.2, "eval_data": None}
    monkeypatch.chdir("/")
    for folder in (run, run / "step-00000002"):
        assert main(["eval", str(folder)]) == 0
        assert capsys.readouterr().out == f"{trained} over 335 tokens: the last 0.2 of {text}\n"
    assert main(["eval", str(run), str(text)]) == 0
    assert capsys.readouterr().out.endswith(f"over 1679 tokens: {text}\n")

    text.write_text("another text, of which the end may have been learned.\n" * 40)
    assert f"{text}: not what {run} was trained on any more; pass the TEXT" in refused(capsys, "eval", run)
    text.unlink()
    assert f"{text}, which goes with {run}, is gone; pass the TEXT" in refused(capsys, "eval", run)
    (run / "cli.json").write_text("[]")
    assert "expected text, held_out, eval_data; pass the TEXT" in refused(capsys, "eval", run)
    (run / "cli.json").unlink()
    assert f"{run} does not say what it was trained on; pass the TEXT" in refused(capsys, "eval", run)


def test_eval_of_a_run_on_the_default_text(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["train", *QUICK, "--held-out", "0.01", "--output-dir", run]) == 0
    trained = capsys.readouterr().out.partition("held-out ")[2].partition(";")[0]
    assert load_json(tmp_path / "run" / "cli.json")["text"] == "default"
    assert main(["eval", run]) == 0
    out = capsys.readouterr().out
    assert out.startswith(trained)
    assert out.endswith("the last 0.01 of the help texts that every Python carries\n")


def test_eval_of_a_run_with_data_of_its_own_to_score_or_none(text, tmp_path, capsys):
    run, other = str(tmp_path / "run"), tmp_path / "other.txt"
    other.write_text("whether it is nobler in the mind\n")
    assert main(["train", str(text), *QUICK, "--eval-data", str(other), "--output-dir", run]) == 0
    assert main(["eval", run]) == 0
    assert capsys.readouterr().out.endswith(f"over 32 tokens: {other}\n")
    shutil.rmtree(run)
    assert main(["train", str(text), *QUICK, "--held-out", "0", "--output-dir", run]) == 0
    assert f"nothing was held out of {text}; pass the TEXT" in refused(capsys, "eval", run)


def test_a_run_that_is_refused_leaves_the_folder_s_origin_alone(text, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(text), *QUICK, "--output-dir", str(run)]) == 0
    before = (run / "cli.json").read_bytes()
    refused(capsys, "train", text, *QUICK, "--held-out", "0.3", "--output-dir", run, "--resume", "auto")
    assert (run / "cli.json").read_bytes() == before


# Refused before the training


def test_an_export_that_cannot_be_is_refused_before_the_training(text, tmp_path, no_training, capsys):
    said = refused(capsys, "train", text, *QUICK, "--export", tmp_path / "hf", "--norm", "rmsnorm")
    assert said.startswith("export: this configuration is of no Hugging Face family")
    assert "norm='layernorm', not 'rmsnorm'" in said
    for folder in (text, text / "hf"):
        assert f"export: '{folder}' cannot be made a folder: {text} is not one" in refused(
            capsys, "train", text, *QUICK, "--export", folder
        )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sample = -5", "sample must be an integer of at least 0, got -5"),
        ("sample = 'x'", "sample must be an integer of at least 0, got 'x'"),
        ("sample = true", "sample must be an integer of at least 0, got True"),
        ("held_out = 'x'", "held_out must be a finite number"),
        ("held_out = -0.1", "held_out must be a finite number"),
        ("output_dir = 3", "output_dir must be the name of a file or folder, got 3"),
        ("text = 3", "text must be the name of a file or folder, got 3"),
        ("eval_data = [1]", "eval_data must be the name of a file or folder, got [1] (list)"),
        ("init = 3", "init must be the name of a file or folder, got 3"),
        ("export = ''", "export must be the name of a file or folder, got ''"),
        ("resume = 3", "resume must be the name of a file or folder, got 3"),
        ("tokenizer = 3", "tokenizer must be one of 'bytes', 'chars', got 3"),
        ("dtype = 'float16'", "dtype must be one of 'float32', 'float64', got 'float16'"),
        ("progress = 1", "progress must be True or False, got 1"),
    ],
)
def test_a_setting_of_a_wrong_type_or_range_is_named_before_the_training(line, said, tmp_path, no_training, capsys):
    path = tmp_path / "run.toml"
    path.write_text(line + "\n")
    assert refused(capsys, "train", "--config", path).startswith(said)


def test_a_sample_of_less_than_nothing(text, no_training, capsys):
    assert "sample must be an integer of at least 0, got -5" in refused(capsys, "train", text, "--sample", "-5")


# Words


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--batch-size", "0", "batch_size must be an integer of at least 1, got 0"),
        ("--seq-len", "0", "seq_len must be an integer of at least 1, got 0"),
        ("--held-out", "1.5", "held_out must be a finite number greater than 0 and less than 1, got 1.5"),
    ],
)
def test_eval_speaks_for_itself(flag, value, said, text, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["train", str(text), *QUICK, "--output-dir", run]) == 0
    assert refused(capsys, "eval", run, text, flag, value) == said + "\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--nonsense"], "loopos train: unrecognized arguments: --nonsense; see loopos train --help\n"),
        (["eval", "a", "b", "c"], "loopos eval: unrecognized arguments: c; see loopos eval --help\n"),
        (["--nonsense", "info"], "loopos: unrecognized arguments: --nonsense; see loopos --help\n"),
    ],
)
def test_a_wrong_flag_points_to_the_help_of_its_command(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err == said


def test_an_unknown_setting_near_no_other_is_answered_with_the_list(tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text("[model]\nzzz = 1\n")
    assert "unknown setting 'zzz' in [model]; there are activation, attention_bias" in refused(
        capsys, "train", "--config", path
    )


def test_a_sample_on_a_terminal_that_lacks_its_characters(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text("\u03b1\u03b2\u03b3\u03b4" * 200, encoding="utf-8")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["train", str(path), *QUICK, "--tokenizer", "chars", "--sample", "20"]) == 0
    stdout.flush()
    assert stdout.buffer.getvalue().endswith(b"sample:\n" + b"?" * 20 + b"\n")


def test_sigterm_says_how_to_go_on(text, tmp_path, interrupted):
    run = tmp_path / "run"
    code, out, err = interrupted(signal.SIGTERM, run, text, *QUICK)
    assert code == 143
    assert out == ""
    newest = max(int(path.name[5:]) for path in run.glob("step-????????"))
    assert err == (
        f"loopos train: training was stopped by SIGTERM after update {newest}. "
        f"To go on: the same command with --output-dir '{run}' --resume auto\n"
    )


def test_a_config_in_another_encoding_or_of_another_kind_is_named(tmp_path, capsys):
    path = tmp_path / "run.toml"
    for data, kind in (
        ("max_steps = 2\n".encode("utf-16"), "text in UTF-16: save it as UTF-8"),
        (b"PK\x03\x04", "a ZIP"),
    ):
        path.write_bytes(data)
        assert main(["train", "--config", str(path)]) == 2
        assert f"run.toml: not a TOML file: this is {kind}" in capsys.readouterr().err
