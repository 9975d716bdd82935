"""loopos info and loopos doctor of folders with models of pictures."""

import json

import numpy as np
import pytest

import loopos
from loopos.cli import main
from loopos.vision import Captioner, ImageEncoder, VisionConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions") / "run"
    given = ["--subset", "40", "--max-steps", "2", "--batch-size", "4", "--no-progress", "--image-size", "32"]
    assert main(["caption", *given, "--output-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    ImageEncoder(VisionConfig(16, 8, 2, 2, 16, class_token=True, num_classes=3)).save_pretrained(folder)
    return folder


def test_info_of_a_captioner(run, capsys):
    assert main(["info", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["updates"], told["fusion"]) == ("run of a captioner", 2, "prefix")
    assert told["parameters"] == Captioner.load(run).config.num_parameters()
    assert told["encoder.image_size"] == [32, 32]
    assert told["words"] == told["decoder.vocab_size"]
    assert "not_finite" not in told
    assert main(["info", str(run)]) == 0
    assert "run of a captioner" in capsys.readouterr().out


def test_info_of_a_vit(vit, tmp_path, capsys):
    assert main(["info", str(vit), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "encoder of pictures"
    assert told["classes"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    model = ImageEncoder.from_pretrained(vit)
    model.parameters()["patch.weight"][0, :2] = np.nan
    model.save(tmp_path)
    assert main(["info", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_finite"] == ["patch.weight (2)"]


def test_doctor_of_a_captioner(run, capsys):
    assert main(["doctor", str(run), "--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    verdicts = {check["name"]: check["verdict"] for check in told["checks"]}
    assert told["ok"]
    for name in ("initial loss", "picture matters", "picture visible", "gradient reaches", "shift", "generation"):
        assert verdicts[name] == "ok", name


def test_doctor_of_a_captioner_that_is_blind(run, tmp_path, capsys):
    model = Captioner.load(run)
    for name, view in model.parameters().items():
        if name.startswith("encoder.projection"):
            view[...] = 0
    model.save(tmp_path)  # without a note on its data: noise is shown
    assert main(["doctor", str(tmp_path), "--quick"]) == 1
    assert "FAIL picture matters" in capsys.readouterr().out


def test_doctor_of_a_vit(vit, tmp_path, capsys):
    assert main(["doctor", str(vit), "--quick"]) == 0
    assert "ok   rows see the picture: each of 5 rows" in capsys.readouterr().out
    ImageEncoder(VisionConfig(16, 8, 2, 2, 16)).save(tmp_path)  # without classes
    assert main(["doctor", str(tmp_path)]) == 0
    assert "ok   rows see the picture: each of 4 rows" in capsys.readouterr().out


def test_doctor_when_the_pictures_are_gone(run, capsys):
    noted = json.loads((run / "pictures.json").read_text())
    (run / "pictures.json").write_text(json.dumps(noted | {"data": "/no/such/folder"}))
    try:
        assert main(["doctor", str(run), "--quick", "--json"]) == 0
    finally:
        (run / "pictures.json").write_text(json.dumps(noted))
    names = [check["name"] for check in json.loads(capsys.readouterr().out)["checks"]]
    assert "picture matters" in names
    assert "initial loss" not in names


def test_other_options_are_refused(run, capsys):
    assert main(["doctor", str(run), "--batch-size", "3"]) == 2
    assert "quick and threads are for it, got batch_size as well" in capsys.readouterr().err


def test_a_language_model_is_looked_at_as_before(tmp_path, capsys):
    loopos.Model(loopos.ModelConfig(40, 24, 1, 2, 16)).save_pretrained(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    assert "Hugging Face folder" in capsys.readouterr().out
