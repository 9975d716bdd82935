"""Folders of captioners and of encoders, told apart."""

import json

import numpy as np
import pytest

import loopos
from loopos import CheckpointError
from loopos.config import ModelConfig
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, Shapes, VisionConfig
from loopos.vision.opening import class_names, kind_of_config, open_pictures

VISION = VisionConfig(16, 8, 1, 2, 16, class_token=True, num_classes=3)
CAPTIONER = CaptionerConfig(VisionConfig(16, 8, 1, 2, 16), ModelConfig(40, 24, 1, 2, 16))


def test_what_save_wrote_and_what_a_run_left(tmp_path):
    Captioner(CAPTIONER).save(tmp_path / "captioner")
    ImageEncoder(VISION).save(tmp_path / "encoder")
    assert isinstance(open_pictures(tmp_path / "captioner"), Captioner)
    assert open_pictures(tmp_path / "encoder").config == VISION
    loopos.train(CAPTIONER, Shapes(20, image_size=16), max_steps=1, output_dir=tmp_path / "run", progress=False)
    assert isinstance(open_pictures(tmp_path / "run"), Captioner)
    assert isinstance(open_pictures(next((tmp_path / "run").glob("step-*"))), Captioner)
    data = np.zeros((4, 16, 16, 3), np.uint8), np.arange(4) % 3
    loopos.train(VISION, data, max_steps=1, output_dir=tmp_path / "classes", progress=False)
    assert isinstance(open_pictures(tmp_path / "classes"), ImageEncoder)


def test_a_vit_and_the_names_of_its_classes(tmp_path):
    ImageEncoder(VISION).save_pretrained(tmp_path)
    assert open_pictures(tmp_path).config.num_classes == 3
    assert class_names(tmp_path, 3) == ("LABEL_0", "LABEL_1", "LABEL_2")
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"id2label": {"0": "cat"}}))
    assert class_names(tmp_path, 2) == ("cat", "class 1")


def test_other_folders(tmp_path):
    assert open_pictures(tmp_path) is None
    model = loopos.Model(ModelConfig(40, 24, 1, 2, 16))
    model.save_pretrained(tmp_path / "gpt2")
    assert open_pictures(tmp_path / "gpt2") is None
    loopos.train(model, np.arange(30), max_steps=1, batch_size=1, output_dir=tmp_path / "run", progress=False)
    assert open_pictures(tmp_path / "run") is None
    assert class_names(tmp_path / "run", 1) == ("class 0",)
    (tmp_path / "config.json").write_text("{")
    assert open_pictures(tmp_path) is None
    ImageEncoder(VISION).save(tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"1234567890")
    with pytest.raises(CheckpointError):
        open_pictures(tmp_path / "damaged")


def test_configurations():
    assert kind_of_config(CAPTIONER.to_dict()) is Captioner
    assert kind_of_config(VISION.to_dict()) is ImageEncoder
    assert kind_of_config(CAPTIONER.decoder.to_dict()) is None
    assert kind_of_config(None) is None
