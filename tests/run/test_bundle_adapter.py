"""A refused update of an adapter is done again from its bundle, on whatever its base is stored as."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import base

import loopos
from loopos import LoRA
from loopos.run.bundle import read_bundle

TEXT = np.resize(np.random.default_rng(0).permutation(23), 4000)
NAME = "blocks.1.attn.o_proj.lora_B"


class Spoil(loopos.Callback):
    def on_step_end(self, info):
        if info["step"] == 3:
            info["model"].parameters()[NAME][2, 1] = np.inf


@pytest.mark.parametrize("weights", [None, "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("spec", [LoRA(2, dropout=0.1), LoRA(2, dora=True)], ids=["dropout", "dora"])
def test_it_is_reproduced_bit_for_bit(weights, spec, tmp_path):
    model = loopos.Model(base().config, weights=weights)
    how = dict(max_steps=6, batch_size=2, progress=False, callbacks=[Spoil()])
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(model, TEXT, adapter=spec, output_dir=tmp_path, **how)
    assert caught.value.birth.tensor == NAME
    bundle = read_bundle(tmp_path)
    again = bundle.model()
    assert (again.adapter, again.weights) == (spec, model.weights)
    assert list(again.parameters(trainable=True)) == list(model.adapter_parameters())
    result = loopos.replay(tmp_path, trace=True)
    assert result, result
    assert result.birth == caught.value.birth
    assert loopos.counterfactuals(tmp_path).verdict in ("the model", "undecided", "the data")


def test_a_bundle_without_an_adapter_has_none(tmp_path):
    model = base()
    model.parameters()["blocks.1.attn.o_proj.weight"][0, 0] = np.nan
    with pytest.raises(loopos.NonFiniteError):
        loopos.train(model, TEXT, max_steps=2, batch_size=2, progress=False, output_dir=tmp_path)
    bundle = read_bundle(tmp_path)
    assert (bundle.adapter, bundle.storage, bundle.stored) == (None, None, {})
    assert bundle.model().adapter is None
