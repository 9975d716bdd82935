"""Which tensors of a file make up which parameter: every number once, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from hf_sizes import SMALL

import loopos
from loopos.hf.families import FAMILIES
from loopos.hf.settings import config_from_json, family_of
from loopos.hf.slots import Slot, layout


@pytest.fixture(params=FAMILIES)
def config(request):
    return config_from_json("config.json", SMALL[request.param])


@pytest.fixture
def slots(config, request):
    return list(layout(config, FAMILIES[family_of(config)].names))


def test_the_layout_is_that_of_the_model(config, slots):
    parameters = loopos.Model(config).parameters()
    assert [(slot.name, slot.shape) for slot in slots] == [(name, view.shape) for name, view in parameters.items()]


def test_no_tensor_of_the_file_is_used_twice(slots):
    names = [name for slot in slots for name, _ in slot.file_shapes()]
    assert len(set(names)) == len(names)


def test_a_parameter_that_is_split_and_joined_keeps_its_bits(slots):
    rng = np.random.default_rng(0)
    for slot in slots:
        array = rng.standard_normal(slot.shape)
        parts = {name: np.ascontiguousarray(view).reshape(shape) for name, shape, view in slot.parts(array)}
        assert {name: part.shape for name, part in parts.items()} == dict(slot.file_shapes())
        assert slot.join(parts).tobytes() == array.tobytes()


def test_rows_that_stand_head_by_head():
    """Two heads of width 1: the file has q0 k0 v0 q1 k1 v1."""
    slot = Slot("w", (6, 2), (("f", 6),), heads=2)
    file = np.arange(12).reshape(6, 2)
    ours = slot.join({"f": file})
    np.testing.assert_array_equal(ours[:, 0], [0, 6, 2, 8, 4, 10])
    ((name, shape, view),) = slot.parts(ours)
    assert (name, shape) == ("f", (6, 2))
    np.testing.assert_array_equal(np.ascontiguousarray(view).reshape(shape), file)
    bias = Slot("b", (6,), (("f", 6),), heads=2)
    np.testing.assert_array_equal(bias.join({"f": np.arange(6)}), [0, 3, 1, 4, 2, 5])
