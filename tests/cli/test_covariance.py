"""loopos covariance: trained, asked again, and the failure shown."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from loopos.cli import main
from loopos.covariance import ULA, CovarianceNetwork, Simulation

QUICK = [
    "--preset",
    "line",
    "--d-model",
    "16",
    "--n-layer",
    "1",
    "--max-steps",
    "6",
    "--batch-size",
    "4",
    "--no-progress",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("covariance") / "run"
    assert main(["covariance", "train", *QUICK, "--samples", "0", "--output-dir", str(folder)]) == 0
    return folder


def test_a_run_says_its_scale_and_notes_its_data(run):
    assert json.loads((run / "covariance.json").read_text())["preset"] == "line"
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert {"pred_norm", "samp_norm", "blend_norm", "loaded_smallest", "eval_loss", "beta"} <= set(first)


def test_it_is_asked_again(run, capsys):
    asked = ["covariance", "eval", str(run), "--samples", "2", "--test-snr", "-5,10", "--test-snapshots", "8"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "network" in out
    assert "||R_blend||" in out
    assert main([*asked, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert main([*asked, "--beta", "0.7", "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["scales"][0]["beta"] == 0.7 != data["scales"][0]["beta"]
    assert other["table"][1:4] == data["table"][1:4]
    assert other["table"][0] != data["table"][0]
    assert [each["snr"] for each in data["scales"]] == [-5.0, 10.0]
    assert [row["estimate"] for row in data["table"]] == 2 * ["network", "sample", "ledoit_wolf", "oas"]


def test_it_draws_what_training_did(run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="needs the extra [covariance]")
    path = tmp_path / "spectrum.png"
    asked = ["covariance", "eval", str(run), "--samples", "0", "--test-snr", "0", "--picture", str(path)]
    assert main(asked) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert str(path) in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for action in (asked, ["covariance", "train", *QUICK, "--picture", "a.png", "--output-dir", str(tmp_path / "run")]):
        assert main(action) == 2  # before a training
        assert "pip install 'loopos[covariance]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_training_starts_from_a_run(run, tmp_path, capsys):
    """With another loss: its first step is that of the run's last weights."""
    given = [*QUICK, "--samples", "0", "--loss", "subspace", "--init", str(run), "--output-dir", str(tmp_path / "next")]
    assert main(["covariance", "train", *given, "--learning-rate", "0", "--weight-decay", "0"]) == 0
    old, new = (CovarianceNetwork.load(folder).parameters() for folder in (run, tmp_path / "next"))
    for name, view in old.items():
        np.testing.assert_array_equal(new[name], view, err_msg=name)
    assert json.loads((tmp_path / "next" / "covariance.json").read_text())["options"]["init"] == str(run)
    wider = ["--d-model", "32", "--output-dir", str(tmp_path / "wider")]
    assert main(["covariance", "train", *given, *wider]) == 2
    assert "shape" in capsys.readouterr().err


def test_the_table_after_a_training(tmp_path, capsys):
    given = [*QUICK, "--samples", "2", "--test-snr", "5", "--snapshots", "4", "--output-dir", str(tmp_path / "run")]
    assert main(["covariance", "train", *given, "--loss", "stein=1,frobenius=0.1"]) == 0
    out = capsys.readouterr().out
    assert "updates 6" in out
    assert "samp_norm" in out
    assert "RMSE deg" in out


def test_the_demonstration(capsys):
    assert main(["covariance", "demo", "--preset", "line", "--max-steps", "2", "--batch-size", "4"]) == 0
    out = capsys.readouterr().out
    for said in ("as reported", "1.44e+11", "sign of a trace", "The repaired pipeline, trained for 2 updates"):
        assert said in out, said
    assert main(["covariance", "demo", "--max-steps", "0", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["failure"]["norms"]["blend"] > 1e12
    assert data["repaired"]["floored"] == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["eval"], "eval needs the folder of a run"),
        (["demo", "folder"], "demo takes no folder"),
        (["train", "no-such-folder"], "no-such-folder"),
        (["train", "--sources", "x"], "sources must be numbers with commas"),
        (["eval", "no-such-folder"], "no-such-folder"),
        (["train", "--degrees"], "degrees is about the angles in FOLDER"),
        (["train", "--loss", "stein="], "weight of stein must be numbers"),
        (["train", "--loss", "stein,stein"], "loss has stein twice"),
        (["demo", "--samples", "3"], "got samples as well"),
        (["demo", "--dry-run"], "got dry_run as well"),
        (["demo", "--output-dir", "x"], "got output_dir as well"),
    ],
)
def test_what_is_refused(given, said, capsys):
    assert main(["covariance", *given]) == 2
    assert said in capsys.readouterr().err


def test_eval_trains_nothing(run, capsys):
    assert main(["covariance", "eval", str(run), "--max-steps", "3"]) == 2
    assert "eval trains nothing; got max_steps" in capsys.readouterr().err
    assert main(["covariance", "eval", str(run), "--preset", "plane"]) == 2
    assert "this network is of 8 sensors, and the preset of 144" in capsys.readouterr().err


def test_a_run_of_another_preset_or_with_odd_notes_is_told(run, tmp_path, capsys):
    (tmp_path / "covariance.json").write_text("[1]")
    assert main(["doctor", str(tmp_path), "--quick"]) == 2
    assert "expected the options of a run" in capsys.readouterr().err


def test_the_table_is_of_what_the_run_was_trained_on(tmp_path, capsys):
    given = ["--sources", "1", "--snapshots", "5", "--samples", "0", "--output-dir", str(tmp_path / "run")]
    assert main(["covariance", "train", *QUICK, *given]) == 0
    capsys.readouterr()
    assert main(["covariance", "eval", str(tmp_path / "run"), "--test-snr", "0", "--samples", "2", "--json"]) == 0
    assert {row["snapshots"] for row in json.loads(capsys.readouterr().out)["table"]} == {5}


def test_a_dry_run_tells_what_it_would_take(capsys):
    assert main(["covariance", "train", *QUICK, "--dry-run"]) == 0
    assert "forecast: memory about" in capsys.readouterr().out


def test_the_doctor_looks_at_a_run(run, capsys):
    assert main(["doctor", str(run), "--quick"]) == 0
    assert "conjugation" in capsys.readouterr().out
    assert main(["doctor", str(run), "--batch-size", "3"]) == 2
    assert "quick and threads are for it" in capsys.readouterr().err


def test_samples_of_a_folder(tmp_path, capsys):
    given = Simulation(ULA(8), sources=2, snr=5.0, snapshots=6).samples(0, 20)
    np.savez(tmp_path / "a.npz", snapshots=given.snapshots, angles=np.degrees(given.directions))
    run = [str(tmp_path), "--degrees", *QUICK, "--samples", "0", "--output-dir", str(tmp_path / "run")]
    assert main(["covariance", "train", *run]) == 0
    assert "eval_loss" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "covariance.json").read_text())["options"]["folder"] == str(tmp_path)
    assert main(["doctor", str(tmp_path / "run"), "--quick"]) == 0  # on these samples
    (tmp_path / "a.npz").unlink()
    capsys.readouterr()
    assert main(["doctor", str(tmp_path / "run"), "--quick"]) == 2
    assert "has no .npy, .npz or .mat file" in capsys.readouterr().err
