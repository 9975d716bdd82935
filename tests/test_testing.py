"""The fault kit: what is planted happens, where and when it is said to, in the step and in its repetition alike."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos import testing
from loopos.data.batches import TokenStream

CONFIG = loopos.ModelConfig(
    vocab_size=31, context_length=8, n_layer=2, n_head=4, d_model=32, norm="rmsnorm", activation="swiglu", d_ff=48
)
IDS = np.random.default_rng(0).integers(0, 31, 400)


def birth_of(model, ids, targets):
    with pytest.raises(loopos.NonFiniteError) as error:
        model.loss_and_grads(ids, targets)
    return error.value.birth


def train(model, data=IDS, **kwargs):
    settings = {"max_steps": 5, "batch_size": 4, "log_every": 1, "progress": False, "learning_rate": 1e-2}
    return loopos.train(model, data, **(settings | kwargs))


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_tensor_of_a_step_can_be_spoilt_and_is_named(family, batch, value):
    model, (ids, targets) = loopos.Model(family, seed=1), batch(family)
    seen = 0
    for frame in loopos.trace_step(model, ids, targets):
        if frame["op"] == "parameter" or frame["tensor"].endswith(".scores"):
            continue  # weights have spoiled_weight; scores exist in a trace only
        index = tuple(n // 2 for n in frame["shape"])
        place = {"phase": frame["phase"], "op": frame["op"], "flag": value == -np.inf}
        with testing.planted(model, frame["tensor"], index, value, **place):
            birth = birth_of(model, ids, targets)
        assert (birth.phase, birth.layer, birth.op) == (frame["phase"], frame["layer"], frame["op"])
        assert (birth.tensor, birth.index) == (frame["tensor"], index)
        assert np.array_equal(birth.value, value, equal_nan=True)
        seen += 1
    assert seen > 50
    model.loss_and_grads(ids, targets)  # and nothing stays behind


def test_a_fault_has_the_same_bits_in_the_step_and_in_its_repetition(family, batch, thread_count):
    model, (ids, targets) = loopos.Model(family, seed=1), batch(family, rows=16)
    results = []
    for threads in (1, 3):
        thread_count(threads)
        with testing.planted(model, "blocks.0.mlp.down_proj.y", (1, 2, 3), 7.0):
            loss, gradients = model.loss_and_grads(ids, targets)
            ledger = loopos.trace_step(model, ids, targets)
        results.append((loss, {name: g.tobytes() for name, g in gradients.items()}, ledger))
    assert results[0] == results[1]
    sound, _ = model.loss_and_grads(ids, targets)
    assert sound != loss
    top = max(frame["max"] for frame in ledger if frame["tensor"] == "blocks.0.mlp.down_proj.y")
    assert top == 7.0
    for name, gradient in gradients.items():
        last = [frame for frame in ledger if frame["phase"] == "backward" and frame["tensor"] == name][-1]
        assert (last["min"], last["max"]) == (gradient.min(), gradient.max())


def test_a_step_and_a_micro_batch_are_meant_exactly():
    model = loopos.Model(CONFIG, seed=1)
    with (
        testing.planted(model, "blocks.1.attn.o_proj.y", (2, 3, 4), np.nan, step=3, micro_batch=1),
        pytest.raises(loopos.NonFiniteError) as error,
    ):
        train(model, grad_accum=2)
    birth = error.value.birth
    assert (birth.step, birth.micro_batch, birth.tensor, birth.index) == (3, 1, "blocks.1.attn.o_proj.y", (2, 3, 4))
    assert birth.place == "row 2, token 3, channel 4"
    assert birth.cause_class == "unknown"
    assert "micro-batch 1" in str(error.value)


def test_a_denormal_is_no_alarm(batch):
    model, (ids, targets) = loopos.Model(CONFIG, seed=1), batch(CONFIG, time=8)
    with testing.planted(model, "blocks.0.attn.o_proj.y", (0, 1, 2), testing.DENORMAL):
        model.loss_and_grads(ids, targets)
    assert np.float32(testing.DENORMAL) == np.finfo(np.float32).smallest_subnormal > 0


@pytest.mark.parametrize("where", [{"index": (9, 9, 9)}, {"tensor": "nowhere"}, {"step": 4}, {"op": "relu"}])
def test_a_fault_that_never_acts_says_so(batch, where):
    model, (ids, targets) = loopos.Model(CONFIG, seed=1), batch(CONFIG, time=8)
    given = {"tensor": "blocks.0.attn.o_proj.y", "index": (0, 1, 2), "value": np.nan} | where
    with pytest.raises(LookupError, match="nothing was planted"), testing.planted(model, **given):
        model.loss_and_grads(ids, targets)


def test_what_is_no_fault_is_refused():
    model = loopos.Model(CONFIG, seed=1)
    for error, given in (
        (ValueError, {"phase": "sideways"}),
        (ValueError, {"step": 0}),
        (ValueError, {"index": ()}),
        (ValueError, {"micro_batch": -1}),
    ):
        with (
            pytest.raises(error),
            testing.planted(model, **({"tensor": "logits", "index": None, "value": 0.0} | given)),
        ):
            pass
    with pytest.raises(TypeError, match="must be a Model"), testing.planted("model", "logits", None, 0.0):
        pass
    with pytest.raises(TypeError, match="batch"):
        testing.Spoiled(IDS)


@pytest.mark.parametrize("part", ["mlp", "attn"])
def test_a_dead_layer_gives_and_learns_nothing(part, batch):
    model, (ids, targets) = loopos.Model(CONFIG, seed=1), batch(CONFIG, time=8)
    with testing.dead_layer(model, 1, part):
        _, gradients = model.loss_and_grads(ids, targets)
    _, sound = model.loss_and_grads(ids, targets)
    dead = {name for name, gradient in gradients.items() if not gradient.any()}
    assert {name for name in sound if name.startswith(f"blocks.1.{part}.")} <= dead
    assert not any(name.startswith("blocks.0.") for name in dead)
    assert all(gradient.any() for gradient in sound.values())


def test_a_missing_backward_leaves_weights_without_a_gradient(batch):
    model, (ids, targets) = loopos.Model(CONFIG, seed=1), batch(CONFIG, time=8)
    with testing.missing_backward(model, "blocks.0.attn.dqkv"):
        loss, gradients = model.loss_and_grads(ids, targets)
    assert loss == model.loss_and_grads(ids, targets)[0]
    assert not gradients["blocks.0.attn.qkv_proj.weight"].any()
    assert gradients["blocks.0.attn.o_proj.weight"].any()


def test_an_ignored_learning_rate_learns_nothing():
    model = loopos.Model(CONFIG, seed=1)
    before = bits(model)
    with testing.ignored_learning_rate():
        train(model, weight_decay=0.0)
    assert bits(model) == before
    with testing.ignored_learning_rate(1e-3):
        a, b = (train(loopos.Model(CONFIG, seed=1), learning_rate=rate).model for rate in (1e-2, 1e-5))
    assert bits(a) == bits(b) != before
    train(model)
    assert bits(model) != before


def test_a_spoiled_weight_is_put_back(batch):
    model, (ids, targets) = loopos.Model(CONFIG, seed=1), batch(CONFIG, time=8)
    before = bits(model)
    with testing.spoiled_weight(model, "blocks.1.mlp.down_proj.weight", (2, 7), np.nan):
        birth = birth_of(model, ids, targets)
    assert (birth.op, birth.tensor, birth.index) == ("parameter", "blocks.1.mlp.down_proj.weight", (2, 7))
    assert bits(model) == before
    with testing.spoiled_weight(model, "final_norm.weight", None, 0.0):
        assert not model.forward(ids).any()
    assert bits(model) == before


def test_spoiled_data_are_wrong_in_one_batch():
    stream = TokenStream(IDS, seq_len=8, batch_size=4, vocab_size=31)
    data = testing.Spoiled(stream, targets={(1, 4): 31}, ids={(0, 0): 5}, step=3)
    assert not hasattr(data, "__len__") or len(data) == len(stream)
    for step in range(4):
        for got, sound in zip(data.batch(step, 0), stream.batch(step, 0), strict=True):
            assert (got != sound).sum() == (step == 2) or (step == 2 and sound[0, 0] == 5)
    assert data.fired == 1
    model = loopos.Model(CONFIG, seed=1)
    with pytest.raises(IndexError, match=r"targets\[1, 4\] = 31"):
        train(model, data)
    assert data.fired == 2


@pytest.mark.parametrize(
    ("tensor", "phase", "index", "shape"),
    [
        ("blocks.0.mlp.down_proj.y", "forward", (0, 0), "(1, 8, 32)"),
        ("blocks.0.mlp.down_proj.y", "forward", (0, 0, 32), "(1, 8, 32)"),
        ("blocks.0.mlp.down_proj.y", "forward", (-1, 0, 0), "(1, 8, 32)"),
        ("blocks.0.mlp.down_proj.weight", "backward", (32, 0), "(32, 48)"),
    ],
)
def test_an_index_that_does_not_fit_is_told_with_the_shape(tensor, phase, index, shape):
    model = loopos.Model(CONFIG)
    ids = np.zeros((2, 8), np.int64)
    with (
        pytest.raises(LookupError, match="does not fit") as error,
        testing.planted(model, tensor, index, 1.0, phase=phase),
    ):
        model.loss_and_grads(ids, ids)
    assert shape in str(error.value)
    with (
        pytest.raises(LookupError, match="never came by"),
        testing.planted(model, "blocks.0.mlp.down_proj.y", (5, 0, 0), 1.0),
    ):
        model.loss_and_grads(ids, ids)
