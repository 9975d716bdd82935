"""--precision, wherever a model is trained or opened, and what is told of it."""

from __future__ import annotations

import json
from html import unescape

import numpy as np
import pytest
from cli_runs import SMALL, TRAIN

import loopos
from loopos import _core
from loopos.cli import main, options
from loopos.cli.near import near
from loopos.files.run_folder import load_checkpoint
from loopos.run.bundle import read_bundle

QUICK = [*TRAIN, "--no-doctor"]


@pytest.fixture(autouse=True)
def _no_precision_of_the_caller(monkeypatch):
    monkeypatch.delenv("LOOPOS_PRECISION", raising=False)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question.\n" * 40)
    return str(path)


@pytest.fixture
def opened(monkeypatch):
    """The precision of each model that is opened out of a folder."""
    seen, of = [], loopos.Model.of

    def watched(*args, **keywords):
        model = of(*args, **keywords)
        seen.append(model.precision)
        return model

    monkeypatch.setattr(loopos.Model, "of", watched)
    return seen


def run_of(folder):
    state = load_checkpoint(folder).state
    return state["precision"], state["products"]


def test_a_flag_a_file_and_the_environment(text, tmp_path, monkeypatch, capsys):
    file = tmp_path / "run.toml"
    file.write_text('[train]\nprecision = "bf16"\n')
    plain = ["train", text, *QUICK, "--no-progress", "--output-dir"]
    assert main([*plain, str(tmp_path / "a"), "--precision", "bf16x3"]) == 0
    assert main([*plain, str(tmp_path / "b"), "--config", str(file)]) == 0
    assert main([*plain, str(tmp_path / "c"), "--config", str(file), "--precision", "float32"]) == 0
    monkeypatch.setenv("LOOPOS_PRECISION", "bf16")
    assert main([*plain, str(tmp_path / "d")]) == 0
    for name, precision in (("a", "bf16x3"), ("b", "bf16"), ("c", "float32"), ("d", "bf16")):
        products = "fma" if precision == "float32" else _core.products(precision)  # the model is small
        assert run_of(tmp_path / name) == (precision, products)
    capsys.readouterr()
    assert main(["info", str(tmp_path / "a")]) == 0
    shown = {tuple(line.split(maxsplit=1)) for line in capsys.readouterr().out.splitlines()}
    assert {("precision", "bf16x3"), ("products", _core.products("bf16x3"))} <= shown


def test_the_forecast_says_it(text, capsys):
    for precision in ("float32", "bf16"):
        assert main(["train", text, *QUICK, "--dry-run", "--precision", precision]) == 0
        said = f"; precision {precision}, products computed with {_core.products(precision)}"
        assert (said in capsys.readouterr().out) == (precision == "bf16")
        assert main(["train", text, *QUICK, "--dry-run", "--precision", precision, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        products = "fma" if precision == "float32" else _core.products(precision)
        assert (told["precision"], told["products"]) == (precision, products)


def test_a_model_that_is_opened_computes_in_it(text, tmp_path, opened, capsys):
    run = str(tmp_path / "run")
    assert main(["train", text, *QUICK, "--no-progress", "--output-dir", run]) == 0
    for command in (
        ["generate", run, "--prompt", "to be", "--max-new-tokens", "2"],
        ["eval", run],
        ["train", text, *TRAIN[len(SMALL) :], "--no-progress", "--init", run],
        ["train", text, *TRAIN[len(SMALL) :], "--no-progress", "--init", run, "--distill", run],
    ):
        opened.clear()
        assert main([*command, "--precision", "bf16x3"]) == 0
        assert set(opened) == {"bf16x3"}
    opened.clear()
    assert main(["eval", run]) == 0
    assert opened == ["float32"]


@pytest.mark.parametrize("command", ["caption", "compare"])
def test_other_trainings(command, tmp_path, monkeypatch, capsys):
    given = []

    def train(*_, **settings):
        given.append(settings["precision"])
        raise ValueError("enough")

    if command == "caption":
        monkeypatch.setattr(loopos, "train", train)
        arguments = [
            "caption",
            "--max-steps",
            "1",
            "--no-progress",
            "--output-dir",
            str(tmp_path),
            "--precision",
            "bf16",
        ]
        assert main(arguments) == 2
        assert given == ["bf16"]
    else:
        from loopos.cli.compare import task_of

        assert task_of({"precision": "bf16"}).settings["precision"] == "bf16"


def test_what_is_refused(text, tmp_path, capsys):
    loopos.Model(loopos.ModelConfig(256, 8, 1, 2, 16)).save_pretrained(tmp_path / "hf")
    folder = str(tmp_path / "hf")
    for arguments, said in (
        (["train", text, "--precision", "bfloat16"], "'bf16'"),
        (["eval", folder, text, "--precision", "medium"], "torch's 'medium' is 'bf16'"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    for name in ("--bf16", "amp", "float32_matmul_precision"):
        assert near(name, options.TRAIN) == "precision"


def test_the_report_says_what_was_asked_and_what_computed(text, tmp_path):
    run = tmp_path / "run"
    assert main(["train", text, *QUICK, "--no-progress", "--output-dir", str(run), "--precision", "bf16x3"]) == 0
    assert main(["report", str(run)]) == 0
    page = unescape((run / "report.html").read_text())
    assert f"<td>bf16x3, computed with {_core.products('bf16x3')} from step 1</td>" in page


def test_a_bundle_is_repeated_in_the_precision_of_its_run(tmp_path, capsys):
    model = loopos.Model(loopos.ModelConfig(64, 32, 2, 2, 64), seed=1, precision="bf16")
    model.parameters()["blocks.1.mlp.up_proj.weight"][3, 5] = 3e38

    class Data:
        def batch(self, step, micro):
            ids = np.random.default_rng(step).integers(0, 64, (4, 32))
            return ids, np.roll(ids, -1, 1)

    with pytest.raises(loopos.NonFiniteError):
        loopos.train(model, Data(), max_steps=3, output_dir=tmp_path, progress=False)
    found, bundle = loopos.replay(tmp_path), read_bundle(tmp_path)
    assert found.reproduced, found
    assert found.build == ()
    assert (bundle.settings.precision, bundle.build["products"]) == ("bf16", _core.products("bf16"))
    assert bundle.model().precision == "bf16"
    assert bundle.model(dtype="float64").precision == "float32"
