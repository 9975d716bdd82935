"""The round of the doctor for models that look at pictures."""

import numpy as np
import pytest

import loopos
from loopos.config import ModelConfig
from loopos.health.doctor.pictures import of_pictures
from loopos.vision import Captioner, CaptionerConfig, Shapes, VisionConfig

SHAPES = Shapes(40, image_size=16)
CONFIG = CaptionerConfig(VisionConfig(16, 8, 1, 2, 16), ModelConfig(40, 24, 1, 2, 16))
RUN = {"batch_size": 4, "max_steps": 20, "learning_rate": 1e-3}


def test_a_full_round_of_a_configuration_learns_a_batch_by_heart():
    report = loopos.doctor(CONFIG, SHAPES, **RUN)
    assert report.ok, str(report)
    assert report["overfit a batch"].verdict == "ok"
    assert report["shift"].verdict == "ok"
    assert f"ln {CONFIG.vocab_size}" in report["initial loss"].expected


def test_nothing_of_the_model_is_changed():
    model = Captioner(CONFIG)
    before = model.state_dict()
    loopos.doctor(model, SHAPES, quick=True, **RUN)
    assert all((view == before[name]).all() for name, view in model.parameters().items())
    assert model.vocabulary is None


def test_settings_are_examined_too():
    assert loopos.doctor(CONFIG, SHAPES, quick=True, **RUN | {"learning_rate": 3.0})["updates"].verdict == "fail"
    late = loopos.doctor(CONFIG, SHAPES, quick=True, **RUN, warmup_steps=50)["schedule"]
    assert "longer than the run" in late.advice


def test_ids_out_of_range_are_a_finding():
    class Batches:
        steps_per_epoch, fingerprint = 3, dict

        def batch(self, step, micro=0):
            raise IndexError("id 99 at (0, 1) is out of range")

    from loopos.health.doctor import pictures

    class Kind:
        config = CaptionerConfig

        def open(self, model, *_):
            from loopos.vision.data.sources import Opened

            return Opened(Batches(), None, None), CONFIG

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "kind_of", lambda model: Kind())
        report = loopos.doctor(Captioner(CONFIG), SHAPES, quick=True, **RUN)
    assert report.failures[0].name == "labels"
    assert report["picture matters"].verdict == "skipped"


def test_who_is_looked_at_so():
    assert of_pictures(CONFIG)
    assert of_pictures(VisionConfig())
    assert not of_pictures(ModelConfig(8, 8, 1, 1, 8))
    assert not of_pictures(np.zeros(1))
