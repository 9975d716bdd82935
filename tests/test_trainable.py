"""freeze and unfreeze: what is frozen has no gradient, no moments, no update; backward ends above it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import loopos
from loopos import optim, testing
from loopos.run.bundle import read_bundle
from loopos.run.settings import OPTIMIZERS
from loopos.trainable import freeze_alike, trainable_of

CONFIGS = {
    "gpt2": dict(dropout=0.1),
    "llama": dict(norm="rmsnorm", activation="swiglu", position="rope", bias=False, n_kv_head=2, tie_embeddings=False),
}
TEXT = "the miller had three sons, and the youngest took the cat. " * 20


def model_of(kind="gpt2", dtype="float32", **more):
    size = dict(vocab_size=256, context_length=16, n_layer=3, n_head=4, d_model=32)
    return loopos.Model(loopos.ModelConfig(**size, **CONFIGS[kind], **more), seed=1, dtype=dtype)


def batch_of(rows=6, time=16):
    ids = np.random.default_rng(0).integers(0, 256, (rows, time + 1))
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 6])  # one pass over the batch, and in parts
@pytest.mark.parametrize(
    "patterns",
    [
        ["tok_embed.*", "pos_embed.*", "blocks.0.*", "blocks.1.*"],
        ["blocks.1.*"],
        ["*.attn.*"],
        ["*.mlp.down_proj.*"],
        ["*.mlp.*up_proj.*", "*norm*"],
        ["*.bias", "*embed*"],
        ["blocks.*", "*embed*"],
    ],
)
def test_gradients_of_the_others_keep_their_bits(kind, dtype, rows, patterns):
    model, (ids, targets) = model_of(kind, dtype), batch_of(rows)
    loss, whole = model.loss_and_grads(ids, targets)
    names = list(model.parameters())
    frozen = set()
    for pattern in patterns:
        try:
            frozen |= set(model.freeze(pattern))
        except ValueError:  # a family without such a parameter
            continue
    assert list(model.parameters(trainable=False)) == [name for name in names if name in frozen]
    again, some = model.loss_and_grads(ids, targets)
    assert again == loss
    assert list(some) == list(model.parameters(trainable=True)) == [name for name in names if name not in frozen]
    for name, gradient in some.items():
        assert np.any(gradient), name
        np.testing.assert_array_equal(gradient, whole[name], err_msg=name)
    model.unfreeze()
    for name, gradient in model.loss_and_grads(ids, targets)[1].items():
        np.testing.assert_array_equal(gradient, whole[name], err_msg=name)


@pytest.mark.parametrize("kind", CONFIGS)
def test_training_moves_the_trainable_alone_and_every_one_of_them(kind):
    model = model_of(kind)
    for pattern in ("*embed*", "blocks.0.*", "blocks.1.*", "lm_head*"):
        if any(name.startswith(pattern.strip("*")) or pattern.strip("*") in name for name in model.parameters()):
            model.freeze(pattern)
    before = model.state_dict()
    result = loopos.train(model, TEXT, max_steps=30, batch_size=4, learning_rate=1e-2, progress=False)
    after = model.parameters()
    for name in model.parameters(trainable=False):
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert all(np.any(before[name] != after[name]) for name in model.parameters(trainable=True))
    assert result.history[-1]["loss"] < result.history[0]["loss"] - 0.3


@pytest.mark.parametrize("lowest", range(3))
def test_backward_ends_at_the_lowest_block_that_trains(lowest):
    model, (ids, targets) = model_of(), batch_of()
    model.freeze()
    model.unfreeze(f"blocks.{lowest}.mlp.*")
    frames = loopos.trace_step(model, ids, targets)
    seen = {frame["layer"] for frame in frames if frame["phase"] == "backward" and frame["layer"] is not None}
    assert seen == set(range(lowest, 3))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(optimizer, tmp_path):
    def run(steps, folder):
        model = model_of(d_ff=48)
        model.freeze("blocks.[01].*")
        settings = dict(batch_size=4, learning_rate=1e-2, optimizer=optimizer, lr_schedule="constant", progress=False)
        return loopos.train(model, TEXT, max_steps=steps, output_dir=folder, resume="auto", **settings).model

    whole = run(9, tmp_path / "whole").state_dict()
    run(4, tmp_path / "parts")
    parts = run(9, tmp_path / "parts").state_dict()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    with pytest.raises(ValueError, match=r"nothing is frozen, in the checkpoint .* blocks.0.attn_norm.weight"):
        loopos.train(model_of(d_ff=48), TEXT, max_steps=12, batch_size=4, output_dir=tmp_path / "parts",
                     optimizer=optimizer, resume="auto", progress=False)  # fmt: skip


def test_moments_exist_for_trainable_parameters_only(tmp_path):
    model = model_of()
    model.freeze("blocks.*")
    loopos.train(model, TEXT, max_steps=2, batch_size=4, output_dir=tmp_path, progress=False)
    saved = loopos.files.run_folder.load_checkpoint(tmp_path)
    assert {name.split(".", 1)[1] for name in saved.optimizer} == set(model.parameters(trainable=True))
    assert set(saved.weights) == set(model.parameters())


def test_an_optimizer_takes_the_trainable_ones():
    model, (ids, targets) = model_of(), batch_of()
    model.freeze("blocks.*")
    adam = optim.Adam(model)
    _, gradients = model.loss_and_grads(ids, targets)
    before = model.state_dict()
    adam.step(gradients)
    moved = {name for name, view in model.parameters().items() if np.any(view != before[name])}
    assert moved == set(model.parameters(trainable=True))
    model.unfreeze("blocks.0.*")
    with pytest.raises(ValueError, match=r"unexpected: \['blocks\.0\."):
        adam.step(model.loss_and_grads(ids, targets)[1])


def test_gradients_seen_before_a_freeze_stay_readable():
    model, (ids, targets) = model_of(), batch_of()
    model.loss_and_grads(ids, targets)
    views = model._core.gradients()
    sums = {name: view.sum() for name, view in views.items()}
    model.freeze("blocks.*")
    model.loss_and_grads(ids, targets)
    assert {name: view.sum() for name, view in views.items()} == sums


def test_copies_are_frozen_alike():
    model = model_of()
    model.freeze("blocks.2.*")
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(twin.parameters(trainable=False)) == list(model.parameters(trainable=False))
    other = model_of()
    other.freeze("*norm*")
    freeze_alike(other, model)
    assert list(trainable_of(other)) == list(trainable_of(model))


def test_gradcheck_doctor_and_replay_know_of_it(tmp_path):
    model = model_of(dtype="float64")
    model.freeze("blocks.0.*")
    report = loopos.gradcheck(model, batch_of(2, 5))
    assert report.passed
    assert {result.name for result in report.results} == {"all parameters", *model.parameters(trainable=True)}

    model = model_of()
    model.freeze("blocks.[01].*")
    found = loopos.doctor(model, TEXT, batch_size=4, max_steps=10)
    assert not [str(check) for check in found.checks if check.verdict == "FAIL"]

    with testing.planted(model, "blocks.2.mlp.y", None, np.inf, step=3), pytest.raises(loopos.NonFiniteError):
        loopos.train(model, TEXT, max_steps=9, batch_size=4, output_dir=tmp_path, progress=False)
    (bundle,) = (tmp_path / "bundles").iterdir()
    assert read_bundle(bundle).frozen == tuple(model.parameters(trainable=False))
    done = loopos.replay(bundle, trace=True)  # without the fault: the update is healthy
    gradients = {facts.tensor for facts in done.trace if facts.kind == "gradient"}
    assert gradients == set(model.parameters(trainable=True))


def test_refusals():
    model = model_of()
    with pytest.raises(ValueError, match=r"Model.freeze: no parameter matches 'block.0.\*'; their names are tok_embed"):
        model.freeze("block.0.*")
    with pytest.raises(TypeError, match="pattern must be None or a str"):
        model.unfreeze(0)
    with pytest.raises(TypeError, match="trainable must be"):
        model.parameters(trainable=1)
    assert model.freeze() == list(model.parameters())
    with pytest.raises(ValueError, match="every parameter of the model is frozen"):
        loopos.train(model, TEXT, max_steps=1, progress=False)
    assert model.unfreeze("blocks.1.mlp.*") == list(model.parameters(trainable=True))

    class Freezes:
        def on_step_end(self, info):
            info["model"].freeze() if "model" in info else model.freeze()

    with pytest.raises(RuntimeError, match=r"loopos.train is training this model"):
        loopos.train(model, TEXT, max_steps=1, batch_size=2, callbacks=[Freezes()], progress=False)
    model.freeze()  # after it, also when it ended with an error
