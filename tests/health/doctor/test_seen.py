"""A captioner and a classifier as the doctor's checks take them."""

import numpy as np

from loopos.config import ModelConfig
from loopos.health.doctor.seen import PicturePatient, Seen, SeenClasses
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, VisionConfig

CAPTIONER = CaptionerConfig(VisionConfig(16, 8, 1, 2, 16), ModelConfig(40, 24, 1, 2, 16))
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)


def test_rows_have_their_pictures_and_further_ones_the_first_again():
    model = Captioner(CAPTIONER)
    seen, ids = Seen(model, IMAGES), np.arange(20).reshape(4, 5)
    images = IMAGES[[0, 1, 2, 0]]
    assert (seen.forward(ids) == model.forward(images, ids)).all()
    assert seen.loss(ids, ids) == model.loss(images, ids, ids)
    loss, gradients = seen.loss_and_grads(ids, ids)
    assert loss == model.loss_and_grads(images, ids, ids)[0]
    assert list(gradients) == list(seen.parameters())
    assert seen.config == CAPTIONER.decoder


def test_ids_of_a_classifier_are_numbers_of_pictures():
    model = ImageEncoder(VisionConfig(16, 8, 1, 2, 16, num_classes=5))
    seen, ids = SeenClasses(model, IMAGES), np.array([[2], [0]])
    assert (seen.forward(ids)[:, 0] == model.logits(IMAGES[[2, 0]])).all()
    assert seen.loss(ids, ids) == model.loss(IMAGES[[2, 0]], ids[:, 0])
    assert seen.config.vocab_size == 5


def test_a_large_model_is_looked_at_with_few_pictures():
    class Source:
        steps_per_epoch = 1

        def batch(self, step, micro=0):
            return np.zeros((64, 3), int), np.zeros((64, 3), int), np.zeros((64, 32, 32, 3), np.uint8)

    config = CaptionerConfig(VisionConfig(32, 4, 2, 4, 128), ModelConfig(500, 24, 2, 4, 128))
    patient = PicturePatient(Captioner(config), Source(), {"learning_rate": 1e-3}, quick=True)
    rows = len(patient.model.images)
    assert 2 <= rows < 64
    assert len(patient.batch[0]) == rows
