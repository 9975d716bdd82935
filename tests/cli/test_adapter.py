"""Adapters on the command line: trained, gone on with, generated from, scored, merged."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loopos
from loopos import LoRA, Model
from loopos.cli import main
from loopos.cli.adapter import take

CONFIG = loopos.ModelConfig(
    256, 16, 2, 2, 32, norm="rmsnorm", activation="swiglu", position="rope", bias=False, d_ff=48
)
QUICK = ["--max-steps", "4", "--batch-size", "2", "--sample", "0", "--no-progress", "--learning-rate", "0.01"]
LORA = ["--lora-rank", "2", "--lora-alpha", "4", "--lora-targets", "q_proj,mlp.up_proj"]
SPEC = LoRA(2, 4, targets=("q_proj", "mlp.up_proj"))
IDS = np.array([[1, 2, 3, 4]])


@pytest.fixture
def folder(tmp_path):
    loopos.Model(CONFIG, seed=1).save_pretrained(tmp_path / "hf")
    return str(tmp_path / "hf")


@pytest.fixture
def train(folder, text, tmp_path):
    def run(*more, name="run"):
        out = str(tmp_path / name)
        assert main(["train", text, "--init", folder, *QUICK, *LORA, "--output-dir", out, *more]) == 0
        return out

    return run


@pytest.mark.parametrize("weights", [None, "bfloat16", "int8", "int4"])
def test_a_run_is_trained_and_opened_by_every_command(train, folder, text, weights, tmp_path, capsys):
    run = train(*([] if weights is None else ["--weights", weights]))
    model = Model.from_pretrained(run)
    assert (model.adapter, model.weights) == (SPEC, weights or "float32")
    base = Model.from_pretrained(folder, weights=weights)
    for name, view in base.parameters().items():
        assert model.parameters()[name].tobytes() == view.tobytes()
    ids = model.generate(IDS, 5, temperature=0)[0].tolist()
    assert ids != base.generate(IDS, 5, temperature=0)[0].tolist() or np.any(model.forward(IDS) != base.forward(IDS))
    capsys.readouterr()
    options = ["--prompt-ids", "1,2,3,4", "--max-new-tokens", "5", "--temperature", "0"]
    assert main(["generate", run, *options]) == 0
    assert [int(part) for part in capsys.readouterr().out.split(",")] == ids
    assert main(["eval", run, text]) == 0
    told = json.loads(_json(capsys, ["info", run, "--json"]))
    assert told["adapter"] == str(SPEC)
    out = str(tmp_path / "merged")
    code = main(["export", run, out])
    said = capsys.readouterr()
    if weights is None:
        assert code == 0
        assert "is merged: logits differ by at most" in said.err
        merged = Model.from_pretrained(out)
        assert np.abs(merged.forward(IDS) - model.forward(IDS)).max() < 1e-5
    else:
        assert code == 2
        assert f"stored as {weights}" in said.err


def _json(capsys, command):
    capsys.readouterr()
    assert main(command) == 0
    return capsys.readouterr().out


def test_a_run_goes_on(train, tmp_path):
    whole = Model.from_pretrained(train("--save-every", "2"))
    on = Model.from_pretrained(train("--resume", str(tmp_path / "run" / "step-00000002"), name="on"))
    for name, view in whole.parameters().items():
        assert on.parameters()[name].tobytes() == view.tobytes(), name


def test_a_run_is_a_beginning_too(train, folder, text, tmp_path, capsys):
    """Its adapter is trained on, whether or not it is asked for again; another one is refused."""
    run, out = train(), str(tmp_path / "out")
    command = ["train", text, "--init", run, *QUICK]
    first = Model.from_pretrained(run)
    for number, flags in enumerate(([], LORA)):
        assert main([*command, *flags, "--output-dir", f"{out}{number}"]) == 0
        model = Model.from_pretrained(f"{out}{number}")
        assert model.adapter == SPEC
        assert any(np.any(view != first.parameters()[name]) for name, view in model.adapter_parameters().items())
        assert model.folder == folder
    assert main([*command, "--lora-rank", "3"]) == 2
    assert "has an adapter already" in capsys.readouterr().err
    (tmp_path / "hf").rename(tmp_path / "there")
    assert main([*command, "--max-steps", "1", "--base", str(tmp_path / "there")]) == 0
    assert main(["train", text, *QUICK, "--base", str(tmp_path / "there")]) == 2
    assert "--init RUN" in capsys.readouterr().err


def test_a_base_that_moved_is_named(train, folder, tmp_path, capsys):
    run = train()
    (tmp_path / "hf").rename(tmp_path / "there")
    capsys.readouterr()
    options = ["--prompt-ids", "1", "--max-new-tokens", "1"]
    assert main(["generate", run, *options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--base FOLDER" in err
    for command in (["generate", run, *options], ["info", run], ["export", run, str(tmp_path / "out")]):
        assert main([*command, "--base", str(tmp_path / "there")]) == 0


def test_train_exports_the_merged_model(train, tmp_path, capsys):
    out = tmp_path / "whole"
    run = train("--export", str(out))
    assert "adapter merged: logits differ by at most" in capsys.readouterr().out
    merged, both = Model.from_pretrained(out), Model.from_pretrained(run)
    assert np.abs(merged.forward(IDS) - both.forward(IDS)).max() < 1e-5


def test_an_export_that_cannot_be_is_refused_before_the_training(folder, text, tmp_path, capsys):
    command = ["train", text, "--init", folder, *QUICK, *LORA, "--weights", "int8", "--export", str(tmp_path / "out")]
    assert main(command) == 2
    assert "export: merge_adapter: the base is stored as int8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--weights", "int8"], "only adapters can be trained"),
        (["--lora-alpha", "4"], "lora_alpha without lora_rank"),
        (["--dora"], "dora without lora_rank"),
        (["--lora-rank", "0"], "rank must be an integer of at least 1, got 0"),
        (["--lora-rank", "2", "--lora-targets", "c_attn"], "this model has no c_attn; targets can be all-linear"),
    ],
)
def test_what_cannot_be_is_one_sentence(folder, text, flags, says, capsys):
    assert main(["train", text, "--init", folder, *QUICK, *flags]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_weights_are_those_of_init(text, capsys):
    assert main(["train", text, *QUICK, "--weights", "int8"]) == 2
    assert "--init FOLDER" in capsys.readouterr().err


def test_the_doctor_looks_at_the_adapter_and_lets_it_be(folder, text, capsys):
    for weights in ("float32", "int8"):
        command = ["doctor", text, "--init", folder, "--weights", weights, *LORA, "--batch-size", "2", "--quick"]
        assert main([*command, "--max-steps", "50"]) == 0, capsys.readouterr().out


def test_a_dry_run_tells_the_memory_of_an_adapter(folder, text, capsys):
    command = ["train", text, "--init", folder, *QUICK, "--dry-run", "--json"]
    told = [_json(capsys, [*command, *flags]) for flags in ([], LORA)]
    full, small = (json.loads(each)["memory_bytes"] for each in told)
    assert small["moments"] < full["moments"] / 10


def test_the_file_has_a_table_of_them(tmp_path, folder, text):
    path = tmp_path / "run.toml"
    path.write_text('max_steps = 2\n[adapter]\nlora_rank = 2\nlora_targets = "attention"\nrslora = true\n')
    out = str(tmp_path / "run")
    command = ["train", text, "--init", folder, "--config", str(path), "--output-dir", out, "--sample", "0"]
    assert main([*command, "--no-progress"]) == 0
    assert Model.from_pretrained(out).adapter == LoRA(2, targets="attention", rslora=True)


def test_a_pattern_of_names_and_none():
    assert take({"lora_rank": 2, "lora_targets": "q_proj, v_proj"}) == LoRA(2, targets=("q_proj", "v_proj"))
    assert take({"lora_rank": 2, "lora_targets": ["q_proj"], "dora": True}) == LoRA(2, targets=("q_proj",), dora=True)
    asked = {"max_steps": 3, "dora": False, "lora_rank": None}
    assert take(asked) is None
    assert asked == {"max_steps": 3}
