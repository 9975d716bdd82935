"""Copies and pickles: independent models; what cannot be copied says what to do; results and errors survive."""

import copy
import pickle

import numpy as np
import pytest

import loopos
from loopos import optim

TEXT = "abcdefgh" * 40
CONFIG = loopos.ModelConfig(256, 8, 1, 2, 8, dropout=0.1)
WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda x, n=n: pickle.loads(pickle.dumps(x, protocol=n)) for n in (2, pickle.HIGHEST_PROTOCOL)},
}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def way(request):
    return request.param


def _bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_copy_is_the_same_model_and_shares_nothing(way, dtype):
    model = loopos.Model(CONFIG, seed=3, dtype=dtype)
    model.parameters()["final_norm.weight"][2] = np.nan  # legal, and kept
    twin = way(model)
    assert type(twin) is loopos.Model
    assert (twin.config, twin.dtype, _bits(twin)) == (model.config, dtype, _bits(model))
    assert twin.lock is not model.lock
    model.parameters()["final_norm.weight"][2] = twin.parameters()["final_norm.weight"][2] = 1.0
    before = _bits(model)
    loopos.train(twin, TEXT, max_steps=2, progress=False)
    assert _bits(model) == before != _bits(twin)
    optim.SGD(model, 0.1).step({name: np.ones_like(array) for name, array in model.parameters().items()})
    assert _bits(model) != before


def test_a_copy_learns_as_its_original_does(way):
    model = loopos.Model(CONFIG, seed=3)
    twin = way(model)
    for each in (model, twin):
        loopos.train(each, TEXT, max_steps=3, progress=False)
    assert _bits(model) == _bits(twin)


def test_the_best_so_far_can_be_kept():
    kept = []
    model = loopos.Model(CONFIG)

    class Keep(loopos.Callback):
        def on_step_end(self, info):
            kept.append(copy.deepcopy(info["model"]))

    loopos.train(model, TEXT, max_steps=2, callbacks=[Keep()], progress=False)
    assert _bits(kept[0]) != _bits(kept[1]) == _bits(model)


def test_one_model_twice_in_a_structure_stays_one():
    model = loopos.Model(CONFIG)
    a, b = copy.deepcopy([model, model])
    assert a is b is not model


def test_a_subclass_keeps_what_it_has(way):
    model = Tagged(CONFIG, seed=1)
    model.tag = ["mine"]
    twin = way(model)
    assert type(twin) is Tagged
    assert twin.tag == ["mine"]
    assert _bits(twin) == _bits(model)


class Tagged(loopos.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tag = None


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "Lion", "Muon"])
def test_an_optimizer_says_how_it_is_copied(kind, way):
    weights = {"w": np.ones((2, 2), np.float32)}
    first = getattr(optim, kind)(weights, 0.1)
    first.step({"w": np.ones((2, 2), np.float32)})
    with pytest.raises(TypeError, match=rf"{kind} cannot be copied or pickled.*load_state_dict"):
        way(first)
    twin_weights = copy.deepcopy(weights)  # the way that the sentence tells
    twin = getattr(optim, kind)(twin_weights, 0.1)
    twin.load_state_dict(first.state_dict())
    for each in (first, twin):
        each.step({"w": np.full((2, 2), 0.5, np.float32)})
    np.testing.assert_array_equal(weights["w"], twin_weights["w"])


def test_results_configurations_and_errors(way):
    result = loopos.train(loopos.Model(CONFIG), TEXT, max_steps=2, progress=False)
    twin = way(result)
    assert (twin.history, twin.step, twin.stopped) == (result.history, result.step, result.stopped)
    assert way(CONFIG) == CONFIG
    model = loopos.Model(CONFIG)
    model.parameters()["final_norm.weight"][2] = np.inf
    ids = np.zeros((1, 4), int)
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(ids, ids)
    twin = way(caught.value)
    assert (str(twin), twin.birth.tensor, twin.birth.index) == (str(caught.value), "final_norm.weight", (2,))
    error = way(loopos.CheckpointError("a/path", "what", 3))
    assert (error.path, error.what, error.offset) == ("a/path", "what", 3)
