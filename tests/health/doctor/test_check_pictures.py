"""The checks of pictures, each with the fault that it is for."""

import numpy as np
import pytest

import loopos
from loopos.config import ModelConfig
from loopos.health.doctor.check_pictures import another_patch
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, Shapes, VisionConfig

SHAPES = Shapes(40, image_size=16)
CONFIG = CaptionerConfig(VisionConfig(16, 8, 1, 2, 16), ModelConfig(40, 24, 1, 2, 16))
RUN = {"batch_size": 4, "max_steps": 20, "learning_rate": 1e-3}
VIT = VisionConfig(16, 8, 2, 2, 16, num_classes=3)


def labelled(count=12):
    images = np.stack([SHAPES.image(k) for k in range(count)])
    return images, np.arange(count) % 3


def examined(model, data=SHAPES, **changed):
    return loopos.doctor(model, data, quick=True, **RUN | changed)


class Blind(Captioner):
    def forward(self, images, ids):
        return super().forward(np.zeros_like(images), ids)


class Cut(Captioner):
    def forward(self, images, ids):
        seen = images.copy()
        seen[:, 8:, 8:] = 0
        return super().forward(seen, ids)


class Mixed(Captioner):
    def forward(self, images, ids):
        return super().forward(images[::-1], ids) + super().forward(images, ids)


class Forgetful(Captioner):
    def next_logits(self, ids):
        return super().next_logits(ids) * (1 + 1e-6)


class WrongGradient(Captioner):
    def loss_and_grads(self, images, ids, targets):
        loss, gradients = super().loss_and_grads(images, ids, targets)
        gradients["encoder.patch.weight"] *= gradients["encoder.patch.weight"].dtype.type(1.001)
        return loss, gradients


class NoGradient(Captioner):
    def loss_and_grads(self, images, ids, targets):
        loss, gradients = super().loss_and_grads(images, ids, targets)
        gradients["encoder.pos_embed.weight"][:] = 0
        return loss, gradients


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (Blind, "picture matters", "4 rows do not feel it"),
        (Blind, "picture visible", "tokens do not feel patch 0"),
        (Cut, "picture visible", "tokens do not feel patch 3 of 4"),
        (Mixed, "picture visible", "logits of another row feel it"),
        (Forgetful, "generation", "kept keys and values differ"),
        (WrongGradient, "gradcheck", "largest relative error"),
        (NoGradient, "gradient reaches", "encoder.pos_embed.weight"),
    ],
)
def test_a_fault_is_seen_by_its_check(kind, name, said):
    found = examined(kind(CONFIG))[name]
    assert found.verdict == "fail"
    assert said in found.measured


@pytest.mark.parametrize("fusion", ["prefix", "cross"])
def test_a_sound_captioner_has_no_finding(fusion):
    report = examined(Captioner(CaptionerConfig(CONFIG.encoder, CONFIG.decoder, fusion)))
    assert not report.problems, str(report)
    assert {"picture matters", "picture visible", "generation", "gradcheck", "padding"} <= {
        c.name for c in report.checks
    }
    assert not [c for c in report.checks if c.verdict == "skipped"]


def test_a_classifier():
    report = examined(ImageEncoder(VIT), labelled())
    assert not report.problems, str(report)
    assert "ln 3" in report["initial loss"].expected
    assert report["classes"].verdict == "ok"


def test_pictures_that_show_nothing_and_other_scales():
    images, labels = labelled()
    assert examined(ImageEncoder(VIT), (np.zeros_like(images), labels))["pictures"].verdict == "fail"
    images[3:] = 7
    assert examined(ImageEncoder(VIT), (images, labels), batch_size=12)["pictures"].verdict == "warn"
    images, _ = labelled()
    far = VisionConfig(16, 8, 2, 2, 16, num_classes=3, image_mean=(9, 9, 9))
    assert examined(ImageEncoder(far), (images, labels))["pictures"].verdict == "warn"


def test_one_picture_cannot_be_exchanged():
    images, labels = labelled(1)
    assert examined(ImageEncoder(VIT), (images, labels), batch_size=1)["picture matters"].verdict == "skipped"


class OneRowBlind(ImageEncoder):
    def forward(self, images):
        rows = super().forward(images)
        rows[:, 0] = 1
        return rows


@pytest.mark.parametrize("classes", [0, 3])
def test_rows_of_an_encoder_see_the_whole_picture(classes):
    """Without data, on pictures that are made up."""
    config = VisionConfig(16, 8, 2, 2, 16, num_classes=classes)
    sound = loopos.doctor(ImageEncoder(config), None, quick=True)
    assert not sound.problems, str(sound)
    assert sound["rows see the picture"].verdict == "ok"
    found = loopos.doctor(OneRowBlind(config), None, quick=True)["rows see the picture"]
    assert (found.verdict, found.measured) == ("fail", "1 of 4 rows do not feel patch 0")


def test_a_captioner_without_data_is_looked_at_with_noise():
    report = loopos.doctor(Captioner(CONFIG), None, quick=True)
    assert not report.problems, str(report)
    assert report["picture visible"].verdict == "ok"
    assert loopos.doctor(Cut(CONFIG), None, quick=True)["picture visible"].verdict == "fail"


def test_another_patch():
    images, _ = labelled(2)
    changed = another_patch(images, VIT, 1)
    moved = np.abs(changed[0, :8, 8:].astype(int) - images[0, :8, 8:])
    assert moved.min() >= 127, "grey is moved too"
    same = changed == images
    same[0, :8, 8:] = True
    assert same.all()
