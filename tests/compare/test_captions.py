"""The task of captioning pictures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import loopos
from loopos.cli import main
from loopos.compare import captions
from loopos.compare.captions import CaptionTask
from loopos.compare.follow import Follow, batches_of
from loopos.compare.tasks import opened, saved
from loopos.compare.trial import Trial
from loopos.vision import Captioner
from loopos.vision.standard import CaptionSetting

TASK = CaptionTask(CaptionSetting(subset=60), {"max_steps": 4, "batch_size": 4})


def test_a_trial_is_what_loopos_train_does(tmp_path):
    assert opened(saved(TASK)) == TASK
    assert TASK.steps() == 4
    with pytest.raises(ValueError, match="image_size must be multiples of patch_size"):  # before any trial
        CaptionTask(CaptionSetting(subset=40, image_size=50), {"max_steps": 4}).steps()
    quality = TASK.train(Trial("adamw", 0.01, 7, 4), tmp_path, Follow(tmp_path))
    assert 0 <= quality["exact match"] <= 1
    batches = TASK.setting.batches(4, seed=7)
    settings = {"max_steps": 4, "batch_size": 4, "learning_rate": 0.01, "min_lr": 0.001, "warmup_steps": 0, "seed": 7}
    model = Captioner(TASK.setting.config(batches.max_tokens), seed=7)
    loopos.train(model, batches, progress=False, **settings)
    again = Captioner.load(tmp_path).parameters()
    assert all(np.array_equal(array, again[name]) for name, array in model.parameters().items())


def test_the_quality_is_that_of_pictures_that_no_evaluation_saw(tmp_path, monkeypatch):
    asked = []

    def score(model, part, **how):
        asked.append((part.part, how["pictures"], how["bleu"]))
        return SimpleNamespace(exact=0.25, bleu=31.5 if how["bleu"] else None)

    monkeypatch.setattr(captions, "score_captions", score)
    monkeypatch.setattr(captions, "find_spec", lambda name: name)
    trial = Trial("adamw", 0.01, 7, 1)
    assert TASK.train(trial, tmp_path / "1", Follow(tmp_path / "1")) == {"exact match": 0.25, "BLEU": 31.5}
    monkeypatch.setattr(captions, "find_spec", lambda name: None)  # without sacrebleu
    assert TASK.train(trial, tmp_path / "2", Follow(tmp_path / "2")) == {"exact match": 0.25, "BLEU": None}
    assert asked == [("test", 500, True), ("test", 500, False)]
    assert TASK.setting.held_out.part == "valid"


def test_captions_of_two_words_have_no_bleu():
    assert [quality.name for quality in CaptionTask(CaptionSetting("digits")).qualities] == ["exact match"]


def test_all_optimizers_see_the_same_batches(tmp_path):
    for name in ("adamw", "sgd"):
        (tmp_path / name).mkdir()
        TASK.train(Trial(name, 0.01, 3, 2, sweep=True), tmp_path / name, Follow(tmp_path / name))
    assert batches_of(tmp_path / "adamw") == batches_of(tmp_path / "sgd")
    assert len(set(batches_of(tmp_path / "sgd"))) == 2


def test_the_command_takes_shapes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = "compare shapes --subset 60 --max-steps 2 --batch-size 4 --no-sweep --seeds 1"
    assert main([*given.split(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "exact match" in told["optimizers"][0]["quality"]
    assert "BLEU" in told["optimizers"][0]["quality"]
    assert (tmp_path / "runs/compare-shapes/comparison.png").is_file() == (told["plot"] is not None)
    smaller = ["--image-size", "16", "--fusion", "cross", "--min-count", "2", "--output-dir", "smaller"]
    assert main([*given.split(), *smaller]) == 0
    plan = json.loads((tmp_path / "smaller/comparison.json").read_text())["task"]["setting"]
    assert (plan["image_size"], plan["fusion"], plan["min_count"], plan["preset"]) == (16, "cross", 2, "tiny")
    capsys.readouterr()
    assert main(["compare", "shapes", "--n-layer", "2"]) == 2
    assert "n_layer: not of captions" in capsys.readouterr().err
    assert main(["compare", "shapes", "--no-pack", "--seq-len", "8"]) == 2
    assert "pack, seq_len: not of captions" in capsys.readouterr().err
    assert main(["compare", "--fusion", "cross", "--preset", "nano_8gb"]) == 2
    assert "preset, fusion: of pictures with captions, and the data are text" in capsys.readouterr().err
