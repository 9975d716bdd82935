"""loopos caption: trained on shapes, digits and a folder, resumed, and asked."""

import json

import numpy as np
import pytest

from loopos.cli import main
from loopos.vision import Captioner, Shapes

Image = pytest.importorskip("PIL.Image", reason="pictures are files here (extra [vision])")
SHORT = ["--subset", "60", "--max-steps", "2", "--batch-size", "4", "--no-progress"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions") / "run"
    assert main(["caption", *SHORT, "--output-dir", str(folder)]) == 0
    return folder


def test_it_ends_with_pictures_beside_their_captions(run, capsys):
    with Image.open(run / "captions.png") as sheet:
        assert sheet.size[0] > 300
    model = Captioner.load(run)
    assert model.config.encoder.height == 64
    assert model.vocabulary.encode("a red circle")
    assert main(["report", str(run)]) == 0
    assert "data:image/png;base64," in (run / "report.html").read_text()


def test_it_goes_on_where_it_stopped(run, capsys):
    longer = ["--subset", "60", "--max-steps", "3", "--batch-size", "4", "--output-dir", str(run), "--resume", "auto"]
    assert main(["caption", *longer, "--no-progress"]) == 0
    printed = capsys.readouterr().out
    assert "updates 3, saved in" in printed
    assert "of 6 held-out pictures with one of their captions" in printed


def test_pictures_are_captioned_by_a_run(run, tmp_path, capsys):
    files = [str(tmp_path / f"{k}.png") for k in range(2)]
    for k, file in enumerate(files):
        Image.fromarray(Shapes(60).image(k)).save(file)
    assert main(["caption", "--predict", str(run), *files, "--beams", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["captions"]
    images = np.stack([Shapes(60).image(k) for k in range(2)])
    assert [each["caption"] for each in told] == Captioner.load(run).caption(images, beams=2)
    assert [each["image"] for each in told] == files


def test_digits_and_a_folder(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's (extra [sklearn])")
    short = ["--max-steps", "1", "--batch-size", "4", "--scored", "8", "--no-progress", "--json"]
    assert main(["caption", "--digits", *short, "--fusion", "cross", "--output-dir", str(tmp_path / "digits")]) == 0
    assert Captioner.load(tmp_path / "digits").config.fusion == "cross"
    assert json.loads(capsys.readouterr().out)["pictures"] == 8
    shapes, lines = Shapes(60), ["image,caption"]
    (tmp_path / "Images").mkdir()
    for k in range(60):
        Image.fromarray(shapes.image(k)).save(tmp_path / "Images" / f"{k}.png")
        lines.append(f'{k}.png,"{shapes.captions(k)[0]}"')
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    given = [str(tmp_path), *short, "--min-count", "1", "--output-dir", str(tmp_path / "run")]
    assert main(["caption", *given]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["samples"][0]) == {"name", "said", "captions", "right"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--preset", "huge"], "preset must be one of"),
        (["--fusion", "sum"], "fusion must be one of"),
        (["no-such-folder"], "no-such-folder"),
        (["somewhere", "--digits"], "got the folder somewhere as well"),
        (["--predict", "no-such-run"], "--predict RUN IMAGE"),
    ],
)
def test_bad_input_is_one_sentence(given, sentence, capsys):
    assert main(["caption", *given]) == 2
    assert sentence in capsys.readouterr().err


def test_sigterm_says_how_it_goes_on(tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise SystemExit(143)

    monkeypatch.setattr("loopos.train", stopped)
    with pytest.raises(SystemExit):
        main(["caption", *SHORT, "--output-dir", str(tmp_path)])
    assert "the same command with --resume auto" in capsys.readouterr().err
