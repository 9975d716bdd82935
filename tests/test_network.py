"""What every network beside the transformer has: files, copies, seeds. tests/vision/test_network.py has more of it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from snapshots import network, samples, small

from loopos import CheckpointError
from loopos.covariance import CovarianceNetwork
from loopos.network import SETTINGS, Network


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_saved_is_loaded(tmp_path, dtype):
    model = network(dtype)
    model.save(tmp_path / "a")
    again = CovarianceNetwork.load(tmp_path / "a")
    assert (again.config, again.dtype) == (model.config, dtype)
    for name, view in model.parameters().items():
        np.testing.assert_array_equal(again.parameters()[name], view, err_msg=name)
    (tmp_path / "a" / SETTINGS).write_text('{"loopos": "ImageEncoder"}')
    with pytest.raises(CheckpointError, match=r"expected what CovarianceNetwork\.save wrote"):
        CovarianceNetwork.load(tmp_path / "a")


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_share_nothing(twin):
    model, given = network(), samples()
    model.freeze("blocks.*")
    before, other = model.numbers(given), twin(model)
    assert list(other.parameters(trainable=False)) == list(model.parameters(trainable=False))
    model.parameters()["factor.weight"][...] = 0
    np.testing.assert_array_equal(other.numbers(given), before)


def test_the_same_seed_gives_the_same_weights():
    one, other = (CovarianceNetwork(small(), seed=7, dtype=dtype) for dtype in ("float32", "float64"))
    assert all((one.parameters()[name] == view).all() for name, view in other.parameters().items())


def test_a_kind_without_a_core_of_its_own_cannot_be_made():
    class Half(Network):
        _config_type = type(small())

    with pytest.raises(TypeError, match="_make_core"):
        Half(small())
