"""loopos/choices.py: every row is sound, and everything that lists activations reads it."""

import json

import numpy as np
import pytest

import loopos
from loopos import _core, ops
from loopos.choices import ACTIVATIONS, FUNCTIONS, ROWS, named_there
from loopos.cli import options
from loopos.health.doctor.stream import stream
from loopos.hf.families import FAMILIES
from loopos.hf.settings import config_from_json, family_of, to_json

X = np.concatenate([np.linspace(-9, 9, 400), [-40.0, 40.0, 0.37]])


@pytest.mark.parametrize("name", dict.fromkeys(row.f for row in ACTIVATIONS.values()))
def test_value_and_slope(name):
    function = FUNCTIONS[name]
    value, slope = function.of(X)
    np.testing.assert_allclose(value, ops.activation(X, name), rtol=1e-12, atol=1e-15)
    h = 1e-6
    np.testing.assert_allclose(slope, (function.of(X + h)[0] - function.of(X - h)[0]) / (2 * h), rtol=1e-5, atol=1e-7)
    if function.steepest is not None:
        assert np.abs(slope).max() <= function.steepest <= 1.01 * np.abs(slope).max() + 0.01
    else:
        assert np.abs(slope).max() > 10
    single = function.of(np.longdouble(0.37))
    assert single[0] == pytest.approx(float(value[-1]), rel=1e-12)
    assert single[1] == pytest.approx(float(slope[-1]), rel=1e-12)


def test_the_rows_are_those_of_the_core():
    assert list(ACTIVATIONS) == list(_core.choices()["activation"])
    assert {row.f for row in ROWS.values()} == set(FUNCTIONS)
    for name in ROWS:
        if name in ACTIVATIONS:
            assert loopos.ModelConfig(5, 4, 1, 2, 8, activation=name).gated == ROWS[name].gated
        else:
            with pytest.raises(ValueError, match="activation must be one of"):
                loopos.ModelConfig(5, 4, 1, 2, 8, activation=name)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_model_has_the_matrices_and_computes_the_function(name):
    config = loopos.ModelConfig(11, 6, 2, 2, 8, activation=name)
    model = loopos.Model(config, dtype="float64")
    assert sum(array.size for array in model.parameters().values()) == config.num_parameters()
    assert ("blocks.0.mlp.gate_up_proj.weight" in model.parameters()) == ROWS[name].gated
    for array in model.parameters().values():
        array += 0.3 * np.random.default_rng(0).standard_normal(array.shape)
    ids = np.arange(12).reshape(2, 6) % 11
    np.testing.assert_allclose(stream(config, model.parameters(), ids)[1], model.forward(ids), rtol=1e-10)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_model_of_it_trains_and_generates(name):
    config = loopos.ModelConfig(11, 8, 1, 2, 16, activation=name)
    tokens = np.resize(np.random.default_rng(0).permutation(11), 2000)
    quiet = dict(progress=False, learning_rate=1e-2, lr_schedule="constant", warmup_steps=0)
    result = loopos.train(config, tokens, max_steps=60, batch_size=8, **quiet)
    generated = result.model.generate(tokens[None, :4], 4, temperature=0)
    np.testing.assert_array_equal(generated[0], tokens[:8])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_hugging_face_folders_name_it(name):
    gated = ROWS[name].gated
    shape = dict(norm="rmsnorm", bias=False) if gated else {}
    config = loopos.ModelConfig(11, 6, 1, 2, 8, activation=name, position="rope", **shape)
    family = FAMILIES[family_of(config)]
    values = to_json(config, family, "float32")
    (key,) = {"hidden_act", "activation_function"} & set(values)
    names = [theirs for theirs, ours in family.activations.items() if ours == name]
    for theirs in names:
        assert config_from_json("config.json", values | {key: theirs}) == config
    assert json.loads(json.dumps(values))[key] == next(there for there in ROWS[name].there if there in names)


@pytest.mark.parametrize("gated", [True, False])
def test_no_name_means_two_things(gated):
    names = [theirs for row in ROWS.values() if row.gated == gated for theirs in row.there]
    assert len(names) == len(set(names))
    assert set(named_there(gated=gated)) == set(names)
    assert named_there("gelu", gated=gated) == {"gelu": "geglu" if gated else "gelu"}


def test_the_command_line_lists_it():
    assert options.CHOICES["activation"] == tuple(ACTIVATIONS)
