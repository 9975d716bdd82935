"""A captioner and its data by name."""

import pytest

from loopos.vision import CaptionFolder, Shapes
from loopos.vision.standard import DROPOUT, EPOCHS, MUON, STEPS, CaptionSetting, is_captions, training_of


def test_shapes_at_the_size_of_the_preset():
    setting = CaptionSetting(subset=60, dropout=0.25, fusion="cross")
    batches = setting.batches(4)
    config = setting.config(batches.max_tokens)
    assert isinstance(setting.pictures, Shapes)
    assert config.encoder.image_size == (64, 64)
    assert config.encoder.dropout == config.decoder.dropout == 0.25
    assert (config.fusion, CaptionSetting().fusion) == ("cross", "prefix")
    assert config.vocab_size == setting.words.vocab_size
    assert config.context_length >= batches.max_tokens
    assert setting.held_out.part == "valid"
    assert setting.test.part == "test"
    assert setting.length == {"max_steps": STEPS["shapes"]}
    assert CaptionSetting(**setting.to_dict()) == setting


def test_a_folder_in_epochs_without_rare_words(tmp_path):
    lines = [f"{k}.png,a dog number{k}" for k in range(40)]
    for k in range(40):
        (tmp_path / f"{k}.png").write_bytes(b"")
    (tmp_path / "captions.txt").write_text("\n".join(["image,caption", *lines]))
    setting = CaptionSetting(str(tmp_path))
    assert setting.length == {"epochs": EPOCHS}
    assert setting.name == tmp_path.name
    assert isinstance(setting.pictures, CaptionFolder)
    assert set(setting.words.entries) == {"a", "dog"}
    assert is_captions(str(tmp_path))
    (tmp_path / "train.jsonl").write_text("")
    assert not is_captions(str(tmp_path))


def test_a_subset_of_the_digits_and_more_than_there_are():
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's (extra [sklearn])")
    assert len(CaptionSetting("digits", subset=200).pictures) == 200
    assert len(CaptionSetting("digits", subset=5000).pictures) == 1797


def test_what_is_no_setting():
    for wrong in ({"preset": "huge"}, {"fusion": "sum"}):
        with pytest.raises(ValueError, match=next(reversed(wrong))):
            CaptionSetting(**wrong)
    assert is_captions("shapes")
    assert not is_captions(None)
    assert not is_captions("no-such-file.txt")
    with pytest.raises(ValueError, match="image_size must be"):
        CaptionSetting(image_size=3)


def test_what_is_drawn_is_learned_by_muon_unless_an_optimizer_is_asked_for():
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's (extra [sklearn])")
    folder = training_of("a folder", {})
    assert (folder["optimizer"], folder["weight_decay"], "muon_lr" in folder) == ("adamw", 0.05, False)
    for name in ("shapes", "digits"):
        drawn = training_of(name, {"weight_decay": 0.3})
        assert drawn == folder | MUON | {"optimizer": "muon"} == training_of(name, {"optimizer": "muon"})
        assert training_of(name, {"optimizer": "adamw"}) == folder
    assert training_of("a folder", {"optimizer": "muon"}) == drawn
    assert {CaptionSetting("digits").config(4).encoder.dropout, DROPOUT["digits"]} == {0.1}
    assert CaptionSetting("digits", dropout=0.0).config(4).decoder.dropout == 0
