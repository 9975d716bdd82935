"""Which tensors of a file make up which parameter: every number once, and back again."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.hf.families import FAMILIES
from loopos.hf.slots import layout

GPT2 = loopos.ModelConfig(31, 16, 2, 4, 32)
LLAMA = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False, "tie_embeddings": False}
CONFIGS = {"gpt2": GPT2, "llama": loopos.ModelConfig(31, 16, 2, 4, 32, n_kv_head=2, d_ff=48, **LLAMA)}


@pytest.fixture(params=CONFIGS)
def config(request):
    return request.param, CONFIGS[request.param]


@pytest.fixture
def slots(config):
    family, shape = config
    return list(layout(shape, FAMILIES[family].names))


def test_the_layout_is_that_of_the_model(config, slots):
    parameters = loopos.Model(config[1]).parameters()
    assert [(slot.name, slot.shape) for slot in slots] == [(name, view.shape) for name, view in parameters.items()]


def test_no_tensor_of_the_file_is_used_twice(slots):
    names = [name for slot in slots for name, _ in slot.file_shapes()]
    assert len(set(names)) == len(names)


def test_a_parameter_that_is_split_and_joined_keeps_its_bits(slots):
    rng = np.random.default_rng(0)
    for slot in slots:
        array = rng.standard_normal(slot.shape)
        parts = dict(slot.split(array))
        assert {name: part.shape for name, part in parts.items()} == dict(slot.file_shapes())
        assert slot.join(parts).tobytes() == array.tobytes()
