"""The patient: its batch is cut to size, its weights come back bit for bit, a foreign model is trained as ours is."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.health.doctor.patient import (
    Batches,
    NotApplicable,
    blocks_of,
    layers_like,
    listed,
    parts_of,
    rms,
    steps_by_hand,
)
from loopos.training import default_settings


def test_weights_come_back_bit_for_bit(patient):
    one = patient()
    before = one.model.state_dict()

    def ruin():
        with one.restored() as saved:
            for name, view in one.model.parameters().items():
                assert (saved[name] == before[name]).all()
                view[...] = np.nan
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        ruin()
    after = one.model.state_dict()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_of_a_model_with_an_adapter_its_matrices_come_back(patient):
    one = patient()
    one.model.add_adapter(loopos.LoRA(2))
    before = one.model.state_dict()
    with one.restored() as saved:
        assert list(saved) == list(one.model.adapter_parameters())  # no second copy of the base
        for view in one.model.adapter_parameters().values():
            view[...] = np.nan
    assert all(before[name].tobytes() == view.tobytes() for name, view in one.model.parameters().items())


def test_rows_without_a_target_are_left_out_and_long_ones_are_cut(patient):
    ids, targets = np.arange(64).reshape(4, 16) % 32, np.full((4, 16), -100)
    targets[1, 12:] = 3
    batch = patient(pairs=[(ids, targets)]).batch
    assert (batch[0] == ids[1:2]).all()
    cut = patient().cut(ids[1:2], targets[1:2], 4)
    assert cut[0].shape == (1, 4)
    assert (cut[1] != -100).any()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_steps_by_hand_are_those_of_train(config, optimizer):
    rng = np.random.default_rng(0)
    batches = Batches([[tuple(rng.integers(0, 256, (2, 2, 16))) for _ in range(2)] for _ in range(3)])
    asked = {"optimizer": optimizer, "learning_rate": 1e-3, "max_steps": 3, "grad_accum": 2, "lr_schedule": "constant"}
    ours, by_hand = (loopos.Model(config(), dtype="float64") for _ in range(2))
    loopos.train(ours, batches, progress=False, **asked)
    settings = default_settings(**asked)
    steps_by_hand(by_hand, batches, **vars(settings))
    other = by_hand.parameters()
    for name, view in ours.parameters().items():
        np.testing.assert_allclose(view, other[name], rtol=1e-9, atol=1e-13, err_msg=name)


def test_parts_blocks_and_words(config):
    shape = config(n_kv_head=1)
    parts = parts_of(shape, "blocks.0.attn.qkv_proj.weight", np.zeros((32 + 2 * 16, 32)))
    assert {name: len(part) for name, part in parts.items()} == {"q": 32, "k": 16, "v": 16}
    assert list(parts_of(shape, "blocks.0.mlp.gate_up_proj.weight", np.zeros((8, 2)))) == ["gate", "up"]
    assert list(parts_of(shape, "tok_embed.weight", np.zeros((8, 2)))) == [""]
    names = ["a", "blocks.1.x", "blocks.0.y", "blocks.1.z"]
    assert blocks_of(names) == {0: ["blocks.0.y"], 1: ["blocks.1.x", "blocks.1.z"]}
    assert listed(list("abcdef")) == "a, b, c, d and 2 more"
    assert (rms(np.array([3.0, -4.0])), rms(np.zeros(0))) == (pytest.approx(12.5**0.5), 0.0)


def test_what_a_model_lacks_is_said(patient):
    class Bare:
        def parameters(self):
            return {"w": np.zeros(3)}

    with pytest.raises(NotApplicable, match=r"no config\.vocab_size"):
        _ = patient(Bare()).vocab
    with pytest.raises(NotApplicable, match="no forward"):
        patient(Bare()).forward(np.zeros((1, 2), int))


GEMMA = dict(layer_types=("sliding",) * 5 + ("full",), sliding_window=8, local_rope_theta=100.0, rotary_dim=24)
SMOL = dict(rope_layers=(True, True, True, False, True, False))
THREE = dict(GEMMA, layer_types=("full",) * 5 + ("sliding",), rope_layers=(True, False, True, True, True, True))


@pytest.mark.parametrize(
    ("fields", "layer_types", "rope_layers"),
    [
        (GEMMA, ("sliding", "full"), ()),
        (SMOL, (), (True, False)),
        (THREE, ("full", "sliding"), (True, True)),
        (dict(GEMMA, layer_types=()), (), ()),
        ({}, (), ()),
    ],
)
def test_a_sibling_has_layers_of_the_kinds_of_its_model(patient, fields, layer_types, rope_layers):
    size = dict(vocab_size=40, context_length=32, n_layer=6, n_head=4, d_model=128, attention_scale=0.1)
    one = patient(loopos.Model(loopos.ModelConfig(**size, position="rope", **fields)))
    config = one.sibling().config
    assert (config.layer_types, config.rope_layers) == (layer_types, rope_layers)
    assert config.rotary_dim == (6 if "rotary_dim" in fields else 0)
    assert config.attention_scale * config.head_width**0.5 == pytest.approx(0.1 * 32**0.5)
    assert set(layers_like(one.config, 3)["layer_types"]) == set(layer_types)
    assert len(layers_like(one.config, 5)["rope_layers"]) in (0, 5)
