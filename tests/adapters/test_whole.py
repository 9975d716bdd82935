"""What a model with an adapter, or one that is stored small, computes with."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import IDS, adapted, base, some

import loopos
from loopos import LoRA
from loopos.adapters.whole import Whole


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("spec", [None, LoRA(2, 6), LoRA(2, targets=some("llama"), dora=True)], ids=str)
def test_a_plain_model_with_these_weights_does_the_same(weights, spec):
    config = base().config
    model = loopos.Model(config, seed=1, weights=weights)
    if spec is not None:
        model.add_adapter(spec)
        for view in model.adapter_parameters().values():
            view += np.float32(0.1)
    plain = loopos.Model(config)
    whole = Whole(model)
    assert list(whole) == list(plain.parameters())
    plain.load_state_dict(dict(whole))
    expected = model.forward(IDS)
    assert np.abs(plain.forward(IDS) - expected).max() <= 5e-6 * np.abs(expected).max()


def test_the_weights_of_the_model_are_left_alone():
    model = adapted(LoRA(2))
    before = {name: view.tobytes() for name, view in model.parameters().items()}
    for name in Whole(model):
        assert len(Whole(model)[name]) > 0
    assert {name: view.tobytes() for name, view in model.parameters().items()} == before
