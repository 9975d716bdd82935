"""Captioners and classifiers of pictures in loopos.train: all that a run has, and batches that are smaller."""

import json
import sys
from contextlib import ExitStack

import numpy as np
import pytest

import loopos
from loopos.config import ModelConfig
from loopos.run.bundle import read_bundle
from loopos.run.objectives import IGNORE
from loopos.run.pictures import Captions, PictureClasses
from loopos.testing import planted
from loopos.training import default_settings
from loopos.vision import (
    CaptionBatches,
    Captioner,
    CaptionerConfig,
    CaptionHeldOut,
    ImageEncoder,
    Shapes,
    VisionConfig,
    WordVocabulary,
)
from loopos.vision.data.sources import CaptionSource, vocabulary_of

SHAPES = Shapes(60, seed=1)
WORDS = vocabulary_of(SHAPES)
LABELLED = SHAPES.part("train").images(), np.arange(48) % 3


def config(**changes):
    return CaptionerConfig(VisionConfig(64, 16, 1, 2, 16), ModelConfig(WORDS.vocab_size, 24, 1, 2, 16, **changes))


def train(model, data=SHAPES, **changes):
    settings = {"max_steps": 6, "batch_size": 8, "learning_rate": 1e-2, "progress": False, "log_every": 1}
    return loopos.train(model, data, **settings | changes)


def test_a_captioner_learns_and_brings_its_vocabulary(tmp_path):
    result = train(config(), max_steps=25, eval_every=10, output_dir=tmp_path, keep_best=True)
    first, last = result.history[0], result.history[-1]
    assert first["loss"] == pytest.approx(np.log(WORDS.vocab_size), rel=0.1)
    assert last["loss"] < 0.7 * first["loss"]
    assert result.best["eval_loss"] < first["loss"]
    assert (tmp_path / "best").is_dir()
    assert result.model.vocabulary == WORDS
    opened = Captioner.load(tmp_path)
    images = SHAPES.part("test").images()
    assert opened.caption(images) == result.model.caption(images)
    assert opened.vocabulary == WORDS
    assert opened.record["step"] == 25
    with pytest.raises(ValueError, match="is a run of a Captioner and no language model"):
        loopos.Model.from_pretrained(tmp_path)
    with pytest.raises(loopos.CheckpointError, match="not of a run of ImageEncoder"):
        ImageEncoder.load(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 26))


def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path):
    whole = train(config(dropout=0.1), output_dir=tmp_path / "whole", save_every=3)
    stops = {"output_dir": tmp_path / "cut", "save_every": 3}

    class Stop(loopos.Callback):
        def on_step_end(self, info):
            return info["step"] == 3

    train(config(dropout=0.1), callbacks=[Stop()], **stops)
    resumed = train(config(dropout=0.1), resume="auto", **stops)
    assert resumed.step == 6
    assert resumed.history[0]["step"] == 4
    for name, weights in whole.model.parameters().items():
        assert np.array_equal(weights, resumed.model.parameters()[name]), name
    with pytest.raises(ValueError, match="the model's encoder"):
        train(CaptionerConfig(VisionConfig(64, 16, 2, 2, 16), config().decoder), resume="auto", **stops)


def test_the_smaller_last_batch_of_an_epoch_is_a_mean_over_its_own_targets():
    part = SHAPES.part("train")  # 48 pictures: 20, 20 and 8
    batches = CaptionBatches(part, WORDS, batch_size=20, last="short")
    assert [len(batches.batch(step).ids) for step in range(4)] == [20, 20, 8, 20]
    model = Captioner(config(), seed=1, dtype="float64")
    images, ids, targets = batches.batch(2)
    loss, gradients = model.loss_and_grads(images, ids, targets)
    norm = np.sqrt(sum(float(np.sum(g**2)) for g in gradients.values()))
    history = train(model, batches, max_steps=3, learning_rate=0.0, weight_decay=0.0).history
    assert history[2]["loss"] == pytest.approx(loss, rel=1e-12)
    assert history[2]["grad_norm"] == pytest.approx(norm, rel=1e-12)
    assert history[2]["valid_tokens"] == np.count_nonzero(targets != IGNORE)


@pytest.mark.parametrize("kind", ["captions", "classes"])
def test_a_number_that_goes_bad_is_named_and_its_update_repeated(tmp_path, kind):
    if kind == "captions":
        model, data = Captioner(config(), seed=1), SHAPES
        name = "encoder.blocks.0.mlp.up_proj.weight"
    else:
        model, data = ImageEncoder(VisionConfig(64, 16, 1, 2, 16, num_classes=3), seed=1), LABELLED
        name = "blocks.0.mlp.up_proj.weight"
    model.parameters()[name][0, 0] = np.float32(np.nan)
    with pytest.raises(loopos.NonFiniteError) as caught:
        train(model, data, output_dir=tmp_path)
    assert name in str(caught.value)
    if kind == "captions":
        assert caught.value.birth.layer == 0
    repeated = loopos.replay(tmp_path)
    assert repeated.reproduced
    assert read_bundle(tmp_path).model().config == model.config


def test_an_update_that_is_skipped_changes_nothing():
    model = Captioner(config(), seed=1)
    model.parameters()["decoder.final_norm.weight"][:] = np.float32(3e38)
    before = model.state_dict()
    result = train(model, on_nonfinite="skip", max_steps=2)
    assert result.history[-1]["skipped"] == 2
    assert all(np.array_equal(weights, before[name]) for name, weights in model.parameters().items())


@pytest.mark.parametrize("kind", ["captions", "classes"])
def test_a_rewind_goes_back_to_the_snapshot_and_resumes_with_the_same_bits(tmp_path, kind):
    """Faults in update 4, before any snapshot but that of the start, and in 13, after that of step 10."""
    captions = kind == "captions"
    data = SHAPES if captions else LABELLED
    tensor = "encoder.blocks.0.attn.y" if captions else "blocks.0.attn.y"

    def new():
        if captions:
            return Captioner(config(dropout=0.1), seed=1)
        return ImageEncoder(VisionConfig(64, 16, 1, 2, 16, num_classes=3, dropout=0.1), seed=1)

    def run(folder, faults, last=16, **more):
        model, seen = new(), {}

        class Watch(loopos.Callback):
            def on_step_end(self, info):
                seen[info["step"]] = model.state_dict()
                return info["step"] == last

        given = {"on_nonfinite": "rewind", "output_dir": folder, "max_steps": 16, "callbacks": [Watch()]}
        with ExitStack() as stack:
            for step in faults:
                stack.enter_context(planted(model, tensor, (0, 0, 0), float("nan"), step=step))
            return train(model, data, **given | more), seen

    whole, seen = run(tmp_path / "whole", (4, 13))
    assert whole.history[-1]["nonfinite"] == 2
    assert all(np.array_equal(weights, seen[4][name]) for name, weights in new().state_dict().items())
    assert all(np.array_equal(weights, seen[13][name]) for name, weights in seen[10].items())
    assert any((weights != seen[10][name]).any() for name, weights in seen[12].items())
    run(tmp_path / "cut", (4,), last=8)
    resumed, _ = run(tmp_path / "cut", (13,), resume="auto")
    assert resumed.step == 16
    for name, weights in whole.model.parameters().items():
        assert np.array_equal(weights, resumed.model.parameters()[name]), name


def test_batches_of_ones_own_are_taken_as_they_are():
    batches = CaptionBatches(SHAPES.part("train"), WORDS, batch_size=4, grad_accum=2, seed=5)
    held_out = CaptionHeldOut(SHAPES.part("test"), WORDS)
    result = train(config(), batches, eval_data=held_out, grad_accum=2)
    assert result.history[-1]["eval_loss"] > 0
    with pytest.raises(ValueError, match="grad_accum is 1, and that of the CaptionBatches 2"):
        train(config(), batches)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="data of a captioner must be a set of pictures"):
        train(config(), "a text")
    with pytest.raises(TypeError, match="eval_data of a captioner"):
        train(config(), SHAPES.part("train"), eval_data="a text")
    with pytest.raises(ValueError, match="vocab_size is 5"):
        train(CaptionerConfig(VisionConfig(64, 16, 1, 2, 16), ModelConfig(5, 24, 1, 2, 16)))
    with pytest.raises(ValueError, match="task and teacher are for a language Model"):
        train(config(), task="dpo")
    with pytest.raises(ValueError, match=r"adapter= is for a language Model.*model.freeze\('encoder"):
        train(config(), adapter=loopos.LoRA())
    with pytest.warns(UserWarning, match="learned without their end"):
        train(CaptionerConfig(VisionConfig(64, 16, 1, 2, 16), ModelConfig(WORDS.vocab_size, 4, 1, 2, 16)), max_steps=1)


def test_an_encoder_with_classes_learns_them(tmp_path):
    images = np.zeros((40, 8, 8, 3), np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1, :, 4:] = 255
    model = ImageEncoder(VisionConfig(8, 4, 1, 2, 16, num_classes=2), seed=1)
    result = train(
        model, (images, labels), eval_data=(images[:7], labels[:7]), max_steps=40, batch_size=4, output_dir=tmp_path
    )
    assert np.array_equal(ImageEncoder.load(tmp_path).logits(images), model.logits(images))
    with pytest.raises(ValueError, match="is a run of an ImageEncoder"):
        loopos.Model.from_pretrained(tmp_path)
    assert result.history[-1]["eval_accuracy"] == 1.0
    assert result.history[-1]["valid_tokens"] == 4
    with pytest.raises(ValueError, match="num_classes 0"):
        train(VisionConfig(8, 4, 1, 2, 16), (images, labels))


def test_objectives_give_the_core_its_pixels():
    settings = default_settings()
    model = Captioner(config(), seed=1)
    batch = CaptionSource(CaptionBatches(SHAPES.part("train"), WORDS, batch_size=2)).batch(0)
    ids, _, more = Captions(settings, model).inputs(batch)
    assert ids is batch[0]
    assert np.array_equal(more["images"], model.pixels(batch[2]))
    encoder = ImageEncoder(VisionConfig(64, 16, 1, 2, 16, num_classes=2), seed=1)
    classes = PictureClasses(settings, encoder)
    pair = batch[2], np.array([0, 1])
    assert np.array_equal(classes.inputs(pair)[0], encoder.pixels(batch[2]))
    assert classes.positions(pair) == 2


def test_words_are_those_of_training_alone():
    assert WordVocabulary.of(c for i in range(48) for c in SHAPES.part("train").captions(i)) == WORDS


def test_pictures_that_are_drawn_need_no_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    shapes = Shapes(60, seed=1)  # SHAPES may have its squares by now
    result = train(config(), shapes, max_steps=1)
    assert len(result.model.caption(shapes.part("test").images())) == 6
    with pytest.raises(ImportError, match=r"pictures of another size, need the package Pillow; .* 'loopos\[vision\]'"):
        CaptionBatches(shapes.part("train"), WORDS, image_size=32)
