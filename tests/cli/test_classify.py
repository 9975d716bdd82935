"""loopos classify: trained on a folder of classes and on digits, scored, and asked."""

import json

import numpy as np
import pytest

from loopos.cli import main
from loopos.vision import ImageEncoder, VisionConfig

Image = pytest.importorskip("PIL.Image", reason="pictures are files here (extra [vision])")
SMALL = ["--n-layer", "1", "--n-head", "2", "--d-model", "16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bright pictures and dark ones."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for kind, least in (("bright", 160), ("dark", 0)):
        (root / kind).mkdir()
        for k in range(40):
            picture = rng.integers(least, least + 90, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(picture).save(root / kind / f"{k:02d}.png")
    return root


@pytest.fixture(scope="module")
def run(folder):
    where = folder.parent / "run"
    given = ["--image-size", "16", "--epochs", "8", "--batch-size", "8", "--output-dir", str(where), "--no-progress"]
    assert main(["classify", str(folder), *SMALL, *given]) == 0
    return where


def test_it_learns_and_is_scored(folder, run, capsys):
    assert main(["classify", str(folder), "--evaluate", str(run)]) == 0
    out = capsys.readouterr().out
    assert "accuracy 1.0000" in out
    assert "bright" in out
    assert main(["classify", "--evaluate", str(run), "--json"]) == 0  # on what it was trained on
    told = json.loads(capsys.readouterr().out)
    assert (told["accuracy"], told["labels"], told["data"]) == (1.0, ["bright", "dark"], str(folder))
    confusion = np.array(told["confusion"])
    assert confusion.trace() == confusion.sum() == told["pictures"]


def test_pictures_are_given_their_classes(folder, run, capsys):
    files = [str(folder / "dark" / "03.png"), str(folder / "bright" / "04.png")]
    assert main(["classify", "--predict", str(run), *files]) == 0
    assert capsys.readouterr().out.startswith(f"{files[0]}: dark (")
    assert main(["classify", "--predict", str(run), *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["classes"]
    assert [each["class"] for each in told] == ["dark", "bright"]
    assert sum(told[0]["probabilities"].values()) == pytest.approx(1)


def test_how_far_pictures_are_warped_is_a_flag(folder, tmp_path, monkeypatch, capsys):
    seen = []

    def spy(model, data, **settings):
        seen.append(data.pictures.augment)
        raise ValueError("enough")

    monkeypatch.setattr("loopos.train", spy)
    given = ["classify", str(folder), *SMALL, "--image-size", "16", "--output-dir", str(tmp_path), "--no-progress"]
    assert [main(given), main([*given, "--warp", "0"]), main([*given, "--warp", "0.3"])] == [2, 2, 2]
    assert [(each.warp, each.flip) for each in seen] == [(0.1, False), (0.0, False), (0.3, False)]
    monkeypatch.undo()
    capsys.readouterr()
    assert main([*given, "--warp", "2"]) == 2
    assert "augment.warp must be" in capsys.readouterr().err


def test_a_vit_of_transformers_is_asked(folder, tmp_path, capsys):
    config = VisionConfig(16, 8, 1, 2, 16, class_token=True, num_classes=5)
    ImageEncoder(config).save_pretrained(tmp_path)
    assert main(["classify", "--predict", str(tmp_path), str(folder / "dark" / "03.png"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["classes"][0]
    assert told["class"].startswith("LABEL_")
    assert len(told["probabilities"]) == 3
    assert main(["classify", str(folder), "--evaluate", str(tmp_path)]) == 2
    assert "has the classes bright, dark" in capsys.readouterr().err


def test_digits_and_a_file(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's (extra [sklearn])")
    path = tmp_path / "run.toml"
    path.write_text("[model]\nn_layer = 1\nn_head = 2\nd_model = 16\n[train]\nmax_steps = 5\nbatch_size = 16\n")
    given = ["classify", "--config", str(path), "--max-steps", "2", "--output-dir", str(tmp_path / "run"), "--json"]
    assert main(given) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["step"] == told["forecast"]["updates"] == 2
    assert told["labels"][7] == "seven"
    assert "doctor: " in err
    assert ImageEncoder.load(tmp_path / "run").config.image_size == (16, 16)
    assert main([*given[:-1], "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("forecast: memory about ")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["no-such-folder"], "no such folder"),
        (["--predict", "no-such-run", "a.png"], "is no classifier of pictures"),
        (["--predict", "no-such-run"], "--predict RUN IMAGE"),
        (["--predict", "run", "a.png", "--epochs", "3"], "predict takes threads alone; got epochs"),
        (["--evaluate", "run", "--epochs", "3"], "evaluate takes FOLDER, subset and threads alone; got epochs"),
        (["--subset", "3"], "n must be an integer of at least 100, got 3"),
        (["--image-size", "16", "--patch-size", "5", "--max-steps", "1"], "multiples of patch_size 5"),
    ],
)
def test_bad_input_is_one_sentence(given, sentence, capsys):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's (extra [sklearn])")
    assert main(["classify", *given]) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_of_which_nothing_is_held_out(tmp_path, capsys):
    for kind in ("a", "b"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "train" / kind / "0.png")
    assert main(["classify", str(tmp_path)]) == 2
    assert "of its 2 pictures none is held out" in capsys.readouterr().err
