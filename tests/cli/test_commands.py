"""The command line, called as a function and once as a program."""

import re
import signal

import numpy as np
import pytest
from cli_runs import SMALL
from safetensors.numpy import load_file, save_file

import loopos
from loopos.cli import build_parser, main, options

QUICK = [*SMALL, "--max-steps", "6", "--batch-size", "2", "--no-progress"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main(["train", text, *QUICK, "--output-dir", str(folder), "--sample", "0"]) == 0
    return str(folder)


def test_train_prints_held_out_loss_and_a_sample(text, capsys):
    assert main(["train", text, *QUICK, "--sample", "40"]) == 0
    out, err = capsys.readouterr()
    assert "updates 6" in out
    assert "held-out loss 5." in out
    assert len(out.partition("sample:\n")[2]) > 20
    assert err == ""


def test_a_sample_of_a_vocabulary_that_is_larger_than_its_tokenizer(text, capsys):
    assert main(["train", text, *QUICK, "--vocab-size", "1000", "--max-steps", "1", "--sample", "40"]) == 0
    assert "sample:\n" in capsys.readouterr().out  # ids that are no token have no text


def test_train_without_a_text_learns_the_one_every_python_carries(capsys):
    assert main(["train", *QUICK, "--max-steps", "1", "--batch-size", "64", "--sample", "0"]) == 0
    assert "held-out loss 5." in capsys.readouterr().out


def test_the_bar_goes_to_stderr(text, capsys):
    assert main(["train", text, *QUICK[:-1], "--sample", "0"]) == 0
    out, err = capsys.readouterr()
    assert "6/6" in err
    assert "it/s" not in out
    assert "grad_norm=" in err


def test_the_flags_reach_train(text, monkeypatch):
    seen = {}

    def spy(model, data, **settings):
        seen.update(settings, config=model.config, tokens=len(data))
        raise ValueError("enough")

    monkeypatch.setattr(loopos, "train", spy)
    flags = (
        "--grad-accum 3 --betas 0.8 0.9 --max-grad-norm none --epochs 2 --no-bias --norm rmsnorm --learning-rate 0.02"
    )
    assert main(["train", text, *SMALL, *flags.split(), "--tokenizer", "chars", "--threads", "1"]) == 2
    assert (seen["grad_accum"], seen["betas"], seen["max_grad_norm"], seen["epochs"]) == (3, [0.8, 0.9], None, 2)
    assert (seen["learning_rate"], seen["min_lr"], seen["threads"]) == (0.02, 0.002, 1)
    assert "max_steps" not in seen  # epochs alone decide
    assert (seen["config"].bias, seen["config"].norm, seen["config"].n_layer) == (False, "rmsnorm", 1)
    assert seen["config"].vocab_size == seen["tokenizer"].vocab_size < 30
    assert seen["tokens"] == int(1680 * 0.9)


def test_every_field_is_a_flag():
    text = build_parser()._subparsers._group_actions[0].choices["train"].format_help()
    from dataclasses import fields
    from inspect import signature

    names = {field.name for field in fields(loopos.ModelConfig)} | set(signature(loopos.train).parameters)
    for name in names - {"model", "data", "callbacks", "adapter", "teacher", *options.WITHOUT_FLAG}:
        assert f"--{name.replace('_', '-')}" in text, name
    for name in options.ADAPTER:
        assert f"--{name.replace('_', '-')}" in text, name
    patterns = {"rank_pattern", "alpha_pattern"}  # of what a folder says, and in Python
    flags = {name.removeprefix("lora_") for name in options.ADAPTER}
    assert flags >= {field.name for field in fields(loopos.LoRA)} - patterns
    assert {*options.MODEL, *options.WITHOUT_FLAG} == {field.name for field in fields(loopos.ModelConfig)}


# The file


def test_a_config_file_and_flags_that_win(text, tmp_path, monkeypatch):
    seen = {}

    def spy(model, data, **settings):
        seen.update(settings, config=model.config)
        raise ValueError("enough")

    monkeypatch.setattr(loopos, "train", spy)
    path = tmp_path / "run.toml"
    path.write_text(
        f'text = "{text}"\nheld_out = 0\n[model]\nn_layer = 3\nd_model = 8\nn_head = 2\n'
        '[train]\nmax_steps = 5\nbetas = [0.5, 0.6]\nmax_grad_norm = "none"\noptimizer = "adam"\n'
    )
    assert main(["train", "--config", str(path), "--max-steps", "7", "--n-layer", "2"]) == 2
    assert (seen["max_steps"], seen["betas"], seen["max_grad_norm"], seen["optimizer"]) == (7, [0.5, 0.6], None, "adam")
    assert (seen["config"].n_layer, seen["config"].d_model) == (2, 8)
    assert "eval_data" not in seen


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "[train]\nlearning_rat = 1\n",
            "unknown setting 'learning_rat' in [train]; did you mean learning_rate? There are batch_size, betas",
        ),
        ("n_layers = 2\n", "unknown setting 'n_layers' at the top level"),
        ("[model]\nmax_steps = 2\n", "unknown setting 'max_steps' in [model]"),
        ("max_steps = 2\n[train]\nmax_steps = 2\n", "max_steps is given twice"),
        ("max_steps = \n", "not a TOML file"),
        ("train = 3\n", "train must be a table"),
        ("max_steps = 2.5\n", "max_steps must be an integer"),
        ("[model]\nbias = 1\n", "bias must be True or False"),
    ],
)
def test_a_bad_config_file_is_one_sentence(content, said, text, tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text(content)
    assert main(["train", text, *SMALL[:2], "--config", str(path), "--no-progress"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


# Errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "no-such-file.txt"], "no such file"),
        (["train", "--config", "no-such.toml"], "no-such.toml"),
        (["train", "TEXT", "--learning-rate", "-1"], "learning_rate must be a finite number at least 0, got -1.0"),
        (["train", "TEXT", "--n-head", "3"], "n_head must divide d_model"),
        (["train", "TEXT", "--resume", "auto"], "output_dir"),
        (["train", "TEXT", "--context-length", "100000"], "tokens are too few"),
        (
            ["train", "TEXT", "--held-out", "1.5"],
            "held_out must be a finite number at least 0 and less than 1, got 1.5",
        ),
        (["train", "TEXT", "--init", "no-such-run"], "no-such-run"),
        (["eval", "no-such-run"], "no-such-run"),
        (["generate", "RUN", "--temperature", "-1"], "temperature"),
        (["generate", "RUN", "--prompt-ids", "1,x"], "integers with commas"),
        (["generate", "RUN", "--prompt", ""], "at least one character"),
        (["generate", "RUN", "--max-new-tokens", "-3"], "max_new_tokens"),
        (["info", "no-such-run"], "no-such-run"),
        (["gradcheck", "--d-model", "7"], "n_head must divide d_model"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, said, text, run, capsys):
    assert main([{"TEXT": text, "RUN": run}.get(a, a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"loopos {arguments[0]}: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["train", "--n-layer", "x"], ["train", "--nonsense"], ["fly"], ["train", "--n-l", "2"]]
)
def test_what_argparse_refuses_is_one_sentence_too(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_number_that_is_not_finite_is_exit_code_3(text, capsys):
    flags = ["--learning-rate", "1e30", "--optimizer", "sgd", "--lr-schedule", "constant", "--max-grad-norm", "none"]
    assert main(["train", text, *QUICK, *flags, "--warmup-steps", "0", "--max-steps", "50"]) == 3
    err = capsys.readouterr().err
    assert "step " in err
    assert err.count("\n") == 1


def test_no_command_prints_the_help(capsys):
    assert main([]) == 2
    assert "generate" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"loopos {loopos.__version__}\n"


# The other commands


def test_resume_and_eval_and_info(text, run, capsys):
    assert main(["train", text, *QUICK, "--max-steps", "8", "--output-dir", run, "--resume", "auto"]) == 0
    assert "updates 8" in capsys.readouterr().out
    assert main(["train", text, *QUICK, "--max-steps", "8", "--output-dir", run, "--resume", "auto"]) == 0
    assert "already complete: 8 updates" in capsys.readouterr().out
    assert main(["info", run]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^updates +8$", out, re.M)
    assert re.search(r"^tokenizer +bytes$", out, re.M)
    assert main(["eval", run, text, "--held-out", "0.1"]) == 0
    assert "over 167 tokens" in capsys.readouterr().out


def test_eval_is_the_loss_of_the_model(text, run, capsys):
    from loopos.run.checkpoint import load_checkpoint

    assert main(["eval", run, text]) == 0
    out = capsys.readouterr().out
    checkpoint = load_checkpoint(run)
    model = loopos.Model(loopos.ModelConfig(**checkpoint.state["config"]))
    model.load_state_dict(checkpoint.weights)
    ids = np.fromfile(text, np.uint8).astype(np.int64)
    pieces = [ids[start : start + 17] for start in range(0, len(ids) - 1, 16)]
    total = sum(model.loss(p[None, :-1], p[None, 1:]) * (len(p) - 1) for p in pieces)
    assert f"loss {total / (len(ids) - 1):.4f} nats" in out
    assert "over 1679 tokens" in out


def test_generate_continues_beyond_the_context(run, capsys):
    assert main(["generate", run, "--prompt", "to be", "--max-new-tokens", "60", "--temperature", "0"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("to be")
    assert main(["generate", run, "--prompt", "to be", "--max-new-tokens", "60", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == first
    assert main(["generate", run, "--prompt-ids", "116,111", "--max-new-tokens", "30", "--top-k", "3"]) == 0
    ids = [int(part) for part in capsys.readouterr().out.split(",")]
    assert ids[:2] == [116, 111]
    assert len(ids) == 32


def test_export_and_init(text, run, tmp_path, capsys):
    folder = str(tmp_path / "hf")
    assert main(["train", text, *QUICK, "--export", folder, "--sample", "0"]) == 0
    assert main(["info", folder]) == 0
    assert "Hugging Face folder" in capsys.readouterr().out
    assert main(["generate", folder, "--prompt-ids", "65", "--max-new-tokens", "4"]) == 0
    short = ["--max-steps", "1", "--batch-size", "2", "--no-progress", "--sample", "0"]
    for start in (folder, run):
        assert main(["train", text, "--init", start, "--learning-rate", "0", *short]) == 0
    assert main(["train", text, "--init", run, "--n-layer", "2", *short]) == 2
    assert "init brings the model's shape" in capsys.readouterr().err


def test_info_names_the_weights_that_are_not_finite(tmp_path, capsys):
    loopos.Model(loopos.ModelConfig(256, 8, 1, 2, 8)).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["transformer.wte.weight"][3, 2:4] = np.nan, np.inf
    assert main(["info", str(tmp_path)]) == 0
    assert "not_finite" not in capsys.readouterr().out
    save_file(weights, path, metadata={"format": "pt"})
    assert main(["info", str(tmp_path)]) == 0
    assert re.search(r"^not_finite +tok_embed.weight \(2\)$", capsys.readouterr().out, re.M)


def test_gradcheck(capsys):
    assert main(["gradcheck", "--n-layer", "1"]) == 0
    assert "gradcheck passed" in capsys.readouterr().out


def test_info_without_a_folder(capsys):
    assert main(["info"]) == 0
    assert loopos.__version__ in capsys.readouterr().out


# As a program


def test_ctrl_c_is_exit_code_130(text, tmp_path, interrupted):
    code, out, err = interrupted(signal.SIGINT, tmp_path / "run", text, *SMALL)
    assert code == 130
    assert out == ""
    assert "loopos train: training was stopped by Ctrl-C after update" in err
    assert "Traceback" not in err


def test_info_tells_what_few_models_have_where_this_one_has_it(tmp_path, capsys):
    for name, more, told in (("plain", {}, False), ("other", {"qk_norm": "head", "mlp_bias": False}, True)):
        model = loopos.Model(loopos.ModelConfig(256, 8, 1, 2, 8, **more))
        loopos.train(model, np.arange(64), max_steps=1, batch_size=1, output_dir=tmp_path / name, progress=False)
        assert main(["info", str(tmp_path / name)]) == 0
        said = capsys.readouterr().out
        assert ("qk_norm" in said, "mlp_bias" in said, "parallel_residual" in said) == (told, told, False)
