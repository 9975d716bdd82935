"""Every choice of a configuration, on each way through the stack: parts, whole, recomputed, watched, frozen, cached."""

from __future__ import annotations

import numpy as np
import pytest
from variants import VARIANTS

import loopos
from loopos import testing

ALL = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def model_of(options, dtype="float32", **more):
    size = dict(vocab_size=19, context_length=70, n_layer=2, n_head=4, d_model=16)
    model = loopos.Model(loopos.ModelConfig(**{**size, **options, **more}), seed=1, dtype=dtype)
    rng = np.random.default_rng(0)
    for view in model.parameters().values():
        view += (0.1 * rng.standard_normal(view.shape)).astype(view.dtype)
    return model


def batch(rows, time, seed=0):
    ids, targets = np.random.default_rng(seed).integers(0, 19, (2, rows, time))
    return ids, targets


def bits(found):
    loss, gradients = found
    return loss, {name: gradient.tobytes() for name, gradient in gradients.items()}


@ALL
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_in_parts_as_a_whole_and_watched_the_bits_are_the_same(options, dropout, thread_count):
    """With these sizes one and two threads take parts of the batch; with five the operations are cut, and with a probe
    nothing is fused."""
    model, (ids, targets) = model_of(options, dropout=dropout), batch(8, 33)
    found = []
    for threads in (1, 2, 5):
        thread_count(threads)
        total = model._core.accumulate(ids, targets, scale=0.1, step=3, seed=7)[0]
        found.append(bits((total, model._core.gradients())))
    fault = {"phase": "forward", "op": "", "tensor": "none", "index": [], "value": 0.0, "flag": False}
    number = model._core._add_plant({**fault, "step": None, "micro": None})
    total = model._core.accumulate(ids, targets, scale=0.1, step=3, seed=7)[0]
    model._core._remove_plant(number)
    found.append(bits((total, model._core.gradients())))
    assert found[1:] == found[:1] * 3
    few = model.forward(ids[:1])  # one sequence is no part
    np.testing.assert_array_equal(model.forward(ids)[:1], few)


@ALL
def test_float_agrees_with_double(options):
    narrow, wide = model_of(options), model_of(options, "float64")
    wide.load_state_dict({name: w.astype(np.float64) for name, w in narrow.state_dict().items()})
    ids, targets = batch(3, 20)
    np.testing.assert_allclose(narrow.forward(ids), wide.forward(ids), rtol=0, atol=5e-6)
    gradients, exact = narrow.loss_and_grads(ids, targets)[1], wide.loss_and_grads(ids, targets)[1]
    for name in gradients:
        assert np.linalg.norm(gradients[name] - exact[name]) <= 2e-5 * np.linalg.norm(exact[name]), name


@ALL
@pytest.mark.parametrize("rows", [8, 1])  # in parts, and whole
def test_what_is_frozen_changes_no_gradient_of_the_rest(options, rows):
    model, (ids, targets) = model_of(options, dropout=0.1), batch(rows, 33)
    model._core.accumulate(ids, targets, scale=0.1, step=3, seed=7)
    free = {name: gradient.copy() for name, gradient in model._core.gradients().items()}
    names = list(free)
    for kept in ([n for n in names if n.startswith("blocks.1.")], names[::2], [n for n in names if "norm" in n]):
        model.unfreeze()
        for name in set(names) - set(kept):
            model.freeze(name)
        model._core.accumulate(ids, targets, scale=0.1, step=3, seed=7)
        found = model._core.gradients()
        assert list(found) == kept
        for name, gradient in found.items():
            assert gradient.tobytes() == free[name].tobytes(), name


@ALL
def test_generation_goes_on_as_forward_says(options):
    model = model_of(options, "float64")
    ids = model.generate(batch(3, 5)[0], 20, temperature=0)
    np.testing.assert_array_equal(ids[:, 5:], model.forward(ids)[:, 4:-1].argmax(2))


@ALL
def test_every_operation_of_a_block_is_seen_and_a_fault_in_it_is_found(options):
    """A NaN is planted in each tensor of block 1 in turn, and the trace names that tensor. The scores never exist as a
    whole: nothing reads what is planted there."""
    model, pair = model_of(options), batch(2, 6)
    ledger = loopos.trace_step(model, *pair)
    order = [(frame["phase"], frame["op"], frame["tensor"]) for frame in ledger]
    assert len(set(order)) == len(order)
    assert set(model.parameters()) <= {tensor for phase, _, tensor in order if phase == "backward"}
    seen = [f for f in ledger if f["layer"] == 1 and f["op"] != "parameter" and not f["tensor"].endswith(".scores")]
    for frame in seen:
        index = tuple(0 for _ in frame["shape"])
        fault = testing.planted(
            model, frame["tensor"], index, float("nan"), phase=frame["phase"], op=frame["op"], flag=True
        )
        with fault, pytest.raises(loopos.NonFiniteError) as caught:
            model.loss_and_grads(*pair)
        birth = caught.value.birth
        assert (birth.phase, birth.op, birth.tensor, birth.index) == (
            frame["phase"],
            frame["op"],
            frame["tensor"],
            index,
        )
        assert birth.cause_class == "unknown", birth.cause


@ALL
@pytest.mark.unsanitized("sixty of the steps that the other tests of each variant take one of")
def test_training_learns(options):
    model = model_of(options)
    data = np.tile(np.arange(18), 40)
    result = loopos.train(
        model, data, max_steps=60, batch_size=8, seq_len=16, learning_rate=1e-2, progress=False, log_every=1
    )
    assert result.history[-1]["loss"] < 0.6 * result.history[0]["loss"]


@ALL
def test_a_copy_and_a_checkpoint_are_the_same_model(options, tmp_path):
    model, ids = model_of(options), batch(2, 9)[0]
    loopos.train(model, np.arange(19).repeat(20), max_steps=1, batch_size=2, output_dir=tmp_path, progress=False)
    again = loopos.Model.from_pretrained(tmp_path)
    assert again.config == model.config
    np.testing.assert_array_equal(again.forward(ids), model.forward(ids))


@pytest.mark.parametrize("kind", ["head", "full"])
def test_norms_of_queries_beyond_the_range_of_the_kernels(kind):
    """Queries of 1e38: 1 / deviation is below the normal numbers, and the rows are done in long double, in place."""
    options = dict(VARIANTS["norms of q and k"], qk_norm=kind)
    narrow, (ids, targets) = model_of(options, norm_eps=1e-6), batch(3, 20)
    narrow.parameters()["tok_embed.weight"][:] = np.sign(narrow.parameters()["tok_embed.weight"])
    queries = narrow.parameters()["blocks.0.attn.qkv_proj.weight"][:16]
    queries[:] = np.float32(2e37) * np.sign(queries)
    wide = model_of(options, "float64", norm_eps=1e-6)
    wide.load_state_dict({name: w.astype(np.float64) for name, w in narrow.state_dict().items()})
    np.testing.assert_allclose(narrow.forward(ids), wide.forward(ids), rtol=0, atol=2e-5)
    gradients, exact = narrow.loss_and_grads(ids, targets)[1], wide.loss_and_grads(ids, targets)[1]
    for name in set(gradients) - {"blocks.0.attn.qkv_proj.weight", "blocks.0.attn.qkv_proj.bias"}:  # of q: denormal
        assert np.linalg.norm(gradients[name] - exact[name]) <= 1e-4 * np.linalg.norm(exact[name]), name
