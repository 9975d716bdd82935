"""loopos caption: trained on shapes, digits and a folder, resumed, and asked."""

import json
import sys

import numpy as np
import pytest

from loopos.cli import main
from loopos.scoring.captions import bleu_of, score_captions
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
    scores = json.loads((run / "caption_scores.json").read_text())
    model = Captioner.load(run)
    found = score_captions(model, Shapes(60).part("test"), bleu=True)
    assert (scores["exact"], scores["bleu"], scores["pictures"]) == (found.exact, found.bleu, 6)
    assert scores["samples"][0]["said"] == found.pictures[0].said
    assert model.config.encoder.height == 64
    assert model.vocabulary.encode("a red circle")
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert f"<p>{found}</p>" in page
    assert "BLEU" in str(found)


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
    assert main(["caption", "--predict", str(run), *files, "--num-beams", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["captions"]
    images = np.stack([Shapes(60).image(k) for k in range(2)])
    assert [each["caption"] for each in told] == Captioner.load(run).caption(images, beams=2)
    assert [each["image"] for each in told] == files


def test_beams_of_the_scores(run, tmp_path, capsys):
    again = [*SHORT, "--output-dir", str(run), "--resume", "auto", "--num-beams", "3", "--json"]
    again[again.index("--max-steps") + 1] = "3"
    assert main(["caption", *again]) == 0
    told = json.loads(capsys.readouterr().out)
    found = score_captions(Captioner.load(run), Shapes(60).part("test"), beams=3, bleu=True)
    assert (told["exact"], told["bleu"], told["num_beams"]) == (found.exact, found.bleu, 3)


def test_without_sacrebleu_there_is_a_sentence_and_no_bleu(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert main(["caption", *SHORT, "--output-dir", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["bleu"] is None
    assert "no BLEU: BLEU needs the package sacrebleu; pip install 'loopos[vision]'" in err


def test_what_the_end_will_lack_is_told_before_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert main(["caption", *SHORT, "--output-dir", str(tmp_path), "--dry-run"]) == 0
    err = capsys.readouterr().err
    assert "the end of this run will have no BLEU: " in err
    assert "captions.png" not in err


# The file


def test_a_file_gives_settings_and_flags_win(tmp_path, monkeypatch):
    seen = {}

    def spy(model, data, **settings):
        seen.update(settings, config=getattr(model, "config", model), pictures=len(data.rows))
        raise ValueError("enough")

    monkeypatch.setattr("loopos.train", spy)
    path = tmp_path / "run.toml"
    path.write_text(
        'subset = 30\n[model]\npreset = "nano_8gb"\nimage_size = 32\n[train]\nepochs = 2\nbatch_size = 3\n'
        'max_grad_norm = "none"\n'
    )
    assert main(["caption", "--config", str(path), "--subset", "20", "--batch-size", "4", "--no-progress"]) == 2
    assert (seen["pictures"], seen["batch_size"], seen["epochs"]) == (16, 4, 2)
    assert seen["max_grad_norm"] is None
    assert "max_steps" not in seen
    assert (seen["config"].decoder.d_model, seen["config"].encoder.height) == (320, 32)
    path.write_text('preset = "tiny"\n')
    assert main(["caption", "--config", str(path), "--subset", "20", "--no-progress"]) == 2
    assert seen["config"].decoder.d_model == 128


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[model]\npresett = 1\n", "unknown setting 'presett' in [model]; did you mean preset? There are dropout"),
        ("[run]\nsubsets = 1\n", "unknown setting 'subsets' in [run]; did you mean subset?"),
        ("n_layer = 2\n", "unknown setting 'n_layer' at the top level"),
        ('preset = "huge"\n', "preset must be one of"),
        ('subset = "all"\n', "caption: subset must be an int"),
        ("cache = 3\n", "cache must be the name of a folder"),
        ('digits = "yes"\n', "caption: digits must be"),
        ('subset = 10\nlearning_rate = "high"\n', "learning_rate must be"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path, capsys, content, sentence):
    path = tmp_path / "run.toml"
    path.write_text(content)
    where = ["--output-dir", str(tmp_path / "run"), "--no-progress"]
    assert main(["caption", "--config", str(path), *where]) == 2
    assert sentence.removeprefix("caption: ") in capsys.readouterr().err


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


def test_the_preset_safe_is_told(tmp_path, capsys):
    short = ["caption", *SHORT[:-1], "--scored", "5", "--output-dir", str(tmp_path), "--preset"]
    assert main([*short, "safe", "--max-grad-norm", "5"]) == 0
    err = capsys.readouterr().err
    assert "preset safe: max_grad_norm stays 5.0, as given, not 1.0 (" in err
    assert "preset safe: on_nonfinite halt (" in err
    assert main([*short, "tiny,nano_8gb"]) == 2
    assert "preset takes one size, and safe beside it" in capsys.readouterr().err
    assert main([*short, "huge,safe"]) == 2
    assert "preset must be one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--preset", "huge"], "preset must be one of"),
        (["--fusion", "sum"], "fusion must be one of"),
        (["no-such-folder"], "no-such-folder"),
        (["somewhere", "--digits"], "got the folder somewhere as well"),
        (["--predict", "no-such-run"], "--predict RUN IMAGE"),
        (["--predict", "run", "a.png", "--config", "run.toml"], "takes num_beams and threads alone; got config"),
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


def test_captions_of_two_words_have_no_bleu():
    assert bleu_of(["a five"], [["a five"]]) is None
