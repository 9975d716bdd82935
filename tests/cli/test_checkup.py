"""What loopos train says before its first update."""

from __future__ import annotations

import json

import pytest
from cli_runs import TRAIN

import loopos
from loopos.cli import main
from loopos.cli.checkup import copies_bytes


@pytest.mark.parametrize("precision", ["float32", "bf16x3"])
def test_train_says_that_all_is_well_in_a_line(precision, text, capsys):
    assert main(["train", text, *TRAIN, "--precision", precision]) == 0
    err = capsys.readouterr().err
    assert err.count("doctor: ") == 1
    assert "WARN" not in err
    assert "FAIL" not in err


def test_train_tells_problems_and_goes_on(text, capsys):
    assert main(["train", text, *TRAIN, "--learning-rate", "3", "--warmup-steps", "0"]) == 0
    out, err = capsys.readouterr()
    assert "FAIL updates: " in err
    assert "updates 3" in out


def test_train_keeps_the_report_in_the_folder_of_the_run(text, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", text, *TRAIN, "--output-dir", str(run)]) == 0
    kept = json.loads((run / "doctor.json").read_text())
    assert kept["summary"] in capsys.readouterr().err
    assert kept["quick"] is True
    assert len(kept["checks"]) > 10
    with pytest.warns(UserWarning, match="another run"):  # whose report is not this run's
        loopos.train(loopos.ModelConfig(256, 16, 1, 2, 16), text, max_steps=1, output_dir=run, progress=False)
    assert not (run / "doctor.json").exists()
    assert json.loads((run / "doctor.json.old").read_text()) == kept


@pytest.mark.parametrize("flag", ["--no-doctor", "--no-progress"])
def test_train_without_the_doctor(flag, text, capsys):
    assert main(["train", text, *TRAIN, flag]) == 0
    assert "doctor" not in capsys.readouterr().err


def test_the_doctor_can_be_left_out_in_a_file(text, tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text(f'text = "{text}"\ndoctor = false\n')
    assert main(["train", "--config", str(path), *TRAIN]) == 0
    assert "doctor" not in capsys.readouterr().err
    path.write_text("doctor = 3\n")
    assert main(["train", "--config", str(path), *TRAIN]) == 2
    assert "doctor" in capsys.readouterr().err


def test_the_doctor_changes_no_bit_of_a_training(text, tmp_path):
    weights = []
    for flag in ("--doctor", "--no-doctor"):
        folder = tmp_path / flag.strip("-")
        main(["train", text, *TRAIN, flag, "--output-dir", str(folder), "--export", str(folder / "hf")])
        weights.append(loopos.Model.from_pretrained(folder / "hf").state_dict())
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_resumed_run_is_examined_with_its_own_weights(text, tmp_path, capsys, monkeypatch):
    run = ["train", text, *TRAIN, "--output-dir", str(tmp_path / "run"), "--resume", "auto"]
    assert main(run) == 0
    first = capsys.readouterr().err
    assert main(run) == 0  # complete: nothing to examine
    assert "doctor" not in capsys.readouterr().err
    seen = []
    from loopos.health.doctor import doctor as module

    examine = module.doctor
    monkeypatch.setattr(
        module, "doctor", lambda model, *a, **k: seen.append(model.state_dict()) or examine(model, *a, **k)
    )
    assert main([*run, "--max-steps", "5"]) == 0
    fresh = loopos.Model(loopos.ModelConfig(256, 16, 1, 2, 16), seed=1337).state_dict()
    assert "doctor" in first
    assert any((seen[0][name] != fresh[name]).any() for name in fresh)


def test_what_the_round_holds_beside_the_run():
    """Weights before and after, gradients, moments; of a large model nothing; beside an adapter its base is not
    copied."""
    model = loopos.Model(loopos.ModelConfig(20, 8, 1, 2, 16))
    size = sum(view.nbytes for view in model.parameters().values())
    assert copies_bytes(model, 7) == 3 * size + 7
    model.add_adapter(loopos.LoRA(2))
    small = sum(view.nbytes for view in model.parameters(trainable=True).values())
    assert copies_bytes(model, 7) == 3 * small + 7
    assert copies_bytes(loopos.Model(loopos.ModelConfig(20_000, 8, 1, 2, 1024)), 7) == 0


def test_the_forecast_of_a_run_counts_it(text, capsys):
    told = []
    for more in ([], ["--no-doctor"]):
        assert main(["train", text, *TRAIN, "--dry-run", "--json", *more]) == 0
        told.append(json.loads(capsys.readouterr().out)["memory_bytes"])
    assert told[0]["checks"] == 3 * told[0]["gradients"] + told[0]["moments"]
    assert told[1]["checks"] == 0
