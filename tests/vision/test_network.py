"""What both kinds share: files, copies, weights, pixels."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from pictures import captioner, classifier, pictures, texts

from loopos import CheckpointError
from loopos.vision import Captioner, ImageEncoder, VisionConfig
from loopos.vision.network import Network


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [classifier, captioner])
def test_what_is_saved_is_loaded(tmp_path, make, dtype):
    model = make(dtype)
    model.save(tmp_path / "a")
    again = type(model).load(tmp_path / "a")
    assert (again.config, again.dtype) == (model.config, dtype)
    for name, view in model.parameters().items():
        np.testing.assert_array_equal(again.parameters()[name], view, err_msg=name)


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_share_nothing(twin):
    model, images, (ids, _) = captioner(), pictures(), texts()
    model.freeze("encoder.*")
    before, other = model.forward(images, ids), twin(model)
    assert list(other.parameters(trainable=False)) == list(model.parameters(trainable=False))
    model.parameters()["decoder.tok_embed.weight"][...] = 0
    np.testing.assert_array_equal(other.forward(images, ids), before)


def test_files_that_are_not_sound(tmp_path):
    model = classifier()
    model.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"expected what Captioner\.save wrote"):
        Captioner.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError):
        ImageEncoder.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        ImageEncoder.load(tmp_path / "none")


def test_the_same_seed_gives_the_same_weights():
    one, other = (type(m)(m.config, seed=7) for m in (captioner(), captioner()))
    assert all((one.parameters()[name] == view).all() for name, view in other.parameters().items())
    wide = Captioner(one.config, seed=7, dtype="float64")
    assert all((wide.parameters()[name] == view).all() for name, view in one.parameters().items())
    assert "float64" in repr(wide)


def test_a_kind_without_a_core_of_its_own_cannot_be_made():
    class Half(Network):
        _config_type = VisionConfig

    with pytest.raises(TypeError, match=r"_make_core.*vision"):
        Half(classifier().config)


def test_weights_from_elsewhere_have_no_record():
    model = classifier()
    model._record = {"step": 3}
    model.load_state_dict(model.state_dict())
    assert model.record is None
