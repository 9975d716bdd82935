"""Low-rank parts of projections in the core: what they compute, their gradients; without them all is as before."""

from __future__ import annotations

import numpy as np
import pytest
from low_rank_parts import SIZE, adapt, batch, merged, model_of, parts_of
from sweeps import SANITIZED
from variants import LLAMA, VARIANTS

import loopos

ALL = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


DORA = pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])


@ALL
@DORA
def test_it_computes_what_the_sum_of_the_weights_does(options, dora):
    ids, targets = batch(3, 20)
    for dtype, limit in (("float64", 1e-12), ("float32", 2e-5)):
        model = model_of(options, dtype)
        plain = model.forward(ids)
        parts = adapt(model, dora=dora)
        want = merged(model, parts)[0]
        logits = model.forward(ids)
        assert np.abs(logits - plain).max() > 0.1
        np.testing.assert_allclose(logits, want.forward(ids), rtol=0, atol=limit)
        assert model.loss(ids, targets) == pytest.approx(want.loss(ids, targets), rel=limit)
        model._core.adapter_enabled(False)
        assert model.forward(ids).tobytes() == plain.tobytes()
        model._core.adapter_enabled(True)
        assert model.forward(ids).tobytes() == logits.tobytes()


@ALL
@pytest.mark.parametrize("rows", [8, 1])
def test_every_gradient(options, rows):
    """In float64 against central differences, whole; and of float32, in parts or whole, against float64."""
    ids, targets = batch(rows, 33)
    wide, narrow = model_of(options, "float64"), model_of(options)
    for model in (wide, narrow):
        adapt(model)
    for name, view in narrow.parameters().items():
        wide.parameters()[name][...] = view
    exact = wide.loss_and_grads(ids, targets)[1]
    assert list(exact) == list(wide.parameters(trainable=True))
    assert all(name.endswith(("lora_A", "lora_B")) for name in exact)
    found = narrow.loss_and_grads(ids, targets)[1]
    for name in exact:
        assert np.linalg.norm(exact[name]) > 0, name
        assert np.linalg.norm(found[name] - exact[name]) <= 1e-4 * np.linalg.norm(exact[name]), name
    if rows == 1 and not SANITIZED:  # its many passes are forwards like those above
        loopos.gradcheck(wide, (ids, targets))


@DORA
@pytest.mark.parametrize("options", [LLAMA, {}, VARIANTS["gemma3"]], ids=["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_in_parts_as_a_whole_and_watched_the_bits_are_the_same(options, dropout, dora, thread_count):
    model, (ids, targets) = model_of(options, dropout=0.1), batch(8, 33)
    adapt(model, dropout=dropout, dora=dora)
    found = []

    def note():
        total = model._core.accumulate(ids, targets, scale=0.1, step=3, seed=7)[0]
        found.append((total, {name: g.tobytes() for name, g in model._core.gradients().items()}))

    for threads in (1, 2, 5):
        thread_count(threads)
        note()
    fault = {"phase": "forward", "op": "", "tensor": "none", "index": [], "value": 0.0, "flag": False}
    number = model._core._add_plant({**fault, "step": None, "micro": None})
    note()
    model._core._remove_plant(number)
    assert found[1:] == found[:1] * 3


def test_a_batch_in_groups_gives_the_same(thread_count):
    """Rows of one batch, and its halves added up."""
    model, (ids, targets) = model_of(dtype="float64"), batch(6, 33)
    adapt(model)
    model._core.accumulate(ids, targets, scale=0.1)
    whole = {name: g.copy() for name, g in model._core.gradients().items()}
    model._core.accumulate(ids[:2], targets[:2], scale=0.1)
    model._core.accumulate(ids[2:], targets[2:], scale=0.1, add=True)
    for name, g in model._core.gradients().items():
        np.testing.assert_allclose(g, whole[name], rtol=0, atol=1e-13)


@DORA
@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_on_a_base_that_is_stored_small(weights, dora):
    """As on a float32 base of the same numbers, bit by bit."""
    ids, targets = batch(2, 40)
    small = loopos.Model(loopos.ModelConfig(**SIZE, **LLAMA), seed=1, weights=weights)
    plain = loopos.Model(loopos.ModelConfig(**SIZE, **LLAMA), seed=1)
    plain.load_state_dict({n: np.asarray(w).copy() for n, w in loopos.storage.all_weights(small._core).items()})
    for model in (small, plain):
        adapt(model, dora=dora)
    assert small.forward(ids).tobytes() == plain.forward(ids).tobytes()
    (loss, gradients), (other, others) = small.loss_and_grads(ids, targets), plain.loss_and_grads(ids, targets)
    assert loss == other
    assert {n: g.tobytes() for n, g in gradients.items()} == {n: g.tobytes() for n, g in others.items()}


@DORA
def test_generation_with_a_cache_is_what_a_whole_forward_gives(dora):
    model = model_of()
    ids = batch(2, 5)[0]
    before = model.generate(ids, 20, temperature=0.0)
    parts = adapt(model, dora=dora)
    tokens = model.generate(ids, 20, temperature=0.0)
    assert (tokens != before).any()
    want = merged(model, parts)[0].generate(ids, 20, temperature=0.0)
    np.testing.assert_array_equal(tokens, want)
    core = model._core
    core.start_generation(2, 30)
    core.next_logits(ids)
    core.adapter_enabled(False)
    with pytest.raises(ValueError, match="do not continue the generation"):
        core.next_logits(ids)


@DORA
def test_removed_all_is_as_before(dora):
    model, (ids, targets) = model_of(), batch(4, 33)
    model.freeze("blocks.0.*")
    loss, gradients = model.loss_and_grads(ids, targets)
    planned = model._core.workspace_bytes(4, 33, True), model._core.workspace_bytes(400, 33, False)
    names, frozen = list(model.parameters()), list(model.parameters(trainable=False))
    for _ in range(2):
        adapt(model, dora=dora)
        assert list(model.parameters())[: len(names)] == names
        assert list(model.parameters(trainable=False)) == names
        assert model._core.workspace_bytes(400, 33, False) > planned[1]
        view = model.parameters(trainable=True)["blocks.0.attn.q_proj.lora_A"]
        kept = view.copy()
        with pytest.raises(ValueError, match=r"tok_embed\.weight is a weight of the model, which is frozen while an"):
            model._core.set_trainable("tok_embed.weight", True)
        model._core.remove_adapter()
        assert list(model.parameters()) == names
        assert list(model.parameters(trainable=False)) == frozen
        again, same = model.loss_and_grads(ids, targets)
        assert (again, list(same)) == (loss, list(gradients))
        assert all(same[name].tobytes() == gradients[name].tobytes() for name in same)
        np.testing.assert_array_equal(view, kept)  # what was taken lives on
    assert planned == (model._core.workspace_bytes(4, 33, True), model._core.workspace_bytes(400, 33, False))


def test_switched_off_it_has_no_gradient():
    model, (ids, targets) = model_of(), batch(4, 33)
    adapt(model)
    model._core.accumulate(ids, targets, scale=0.1)
    model._core.adapter_enabled(False)
    model._core.accumulate(ids, targets, scale=0.1)
    assert all(not g.any() for g in model._core.gradients().values())


@pytest.mark.parametrize("frozen", ["*lora_A", "*lora_B", "*lora_magnitude", "*down_proj*", "blocks.0.*", "*"])
@pytest.mark.parametrize("rows", [8, 1])
def test_a_frozen_matrix_changes_no_gradient_of_the_rest(frozen, rows):
    model, (ids, targets) = model_of(), batch(rows, 33)
    adapt(model, dora=True)
    free = model.loss_and_grads(ids, targets)[1]
    for name in model.freeze(frozen):
        free.pop(name, None)
    found = model.loss_and_grads(ids, targets)[1]
    assert {n: g.tobytes() for n, g in found.items()} == {n: g.tobytes() for n, g in free.items()}


def test_dropout_is_a_function_of_seed_step_and_micro_batch_alone():
    model, (ids, targets) = model_of(), batch(4, 33)
    adapt(model, dropout=0.5)
    losses = {
        key: model._core.accumulate(ids, targets, scale=0.1, **dict(zip(("step", "seed", "micro"), key, strict=True)))[
            0
        ]
        for key in [(1, 7, 0), (2, 7, 0), (1, 8, 0), (1, 7, 1), (1, 7, 0)]
    }
    assert len(set(losses.values())) == 4
    plain = model._core.accumulate(ids, targets, scale=0.1)[0]  # no step, no dropout
    assert plain == model._core.loss(ids, targets)[0]
    assert plain not in losses.values()


def test_gradients_with_dropout_by_differences():
    """The mask of a step stays what it is, so the loss of that step has a slope."""
    model, (ids, targets) = model_of(dtype="float64"), batch(2, 20)
    adapt(model, dropout=0.5)
    keywords = {"scale": 1.0, "step": 3, "seed": 7}
    model._core.accumulate(ids, targets, **keywords)
    gradients = {name: g.copy() for name, g in model._core.gradients().items()}
    rng = np.random.default_rng(0)
    for name, view in model.parameters(trainable=True).items():
        direction = rng.standard_normal(view.shape)
        kept = view.copy()
        ends = []
        for side in (1, -1):
            view[:] = kept + side * 1e-6 * direction
            ends.append(model._core.accumulate(ids, targets, **keywords)[0])
        view[:] = kept
        slope = np.sum(gradients[name] * direction)
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_a_birth_is_told():
    model, (ids, targets) = model_of(), batch(2, 12)
    adapt(model)
    lora_b = model.parameters()["blocks.1.attn.k_proj.lora_B"]
    kept = lora_b[1, 2]
    lora_b[1, 2] = np.nan
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(ids, targets)
    birth = caught.value.birth
    assert (birth.layer, birth.op, birth.tensor, birth.index) == (
        1,
        "parameter",
        "blocks.1.attn.k_proj.lora_B",
        (1, 2),
    )
    lora_b[1, 2] = kept
    lora_b[1] = 1e38
    model.parameters()["blocks.1.attn.k_proj.lora_A"][:] *= 1e3
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(ids, targets)
    birth = caught.value.birth
    assert (birth.layer, birth.op, birth.tensor) == (1, "low_rank", "blocks.1.attn.qkv_proj.y")
    assert birth.index[-1] == 16 + 1  # row 1 of k
    assert birth.cause.startswith("product overflow"), birth.cause


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"projection": "blocks.7.attn.o_proj"}, "which the model does not have; it has blocks.0.attn.qkv_proj, "),
        ({"first": 30}, "must lie within the 32 rows of blocks.0.attn.qkv_proj, got first 30 and rows 16"),
        ({"first": -1}, "must lie within"),
        ({"rows": 0}, "must lie within"),
        ({"rank": 0}, "the rank of part blocks.0.attn.q_proj must be 1 at least, got 0"),
        ({"scale": np.nan}, "the scale of part blocks.0.attn.q_proj must be finite"),
        ({"dropout": 1.0}, r"must be in \[0, 1\), got 1"),
        ({"first": 1}, "overlap: both act on row 16 of blocks.0.attn.qkv_proj"),
        ({"dropout": 0.5}, "share their input and its dropout"),
        ({"name": "blocks.0.attn.k_proj"}, "there would be two parameters blocks.0.attn.k_proj.lora_A"),
        ({"shape": 3}, "got also 'shape'"),
        ({"dora": 1.5}, "'dora' of a part must be a bool, got 1.5"),
        ({"rank": "8"}, "'rank' of a part must be an int, got '8'"),
    ],
)
def test_bad_parts_are_refused_in_a_sentence(change, said):
    model = model_of()
    ids = batch(2, 20)[0]
    before, names = model.forward(ids), list(model.parameters())
    parts = parts_of(model)
    parts[0] = parts[0] | change
    with pytest.raises((ValueError, TypeError), match=said) as caught:
        model._core.add_adapter(parts)
    assert "\n" not in str(caught.value)
    assert list(model.parameters()) == list(model.parameters(trainable=True)) == names
    assert model.forward(ids).tobytes() == before.tobytes()


def test_other_refusals():
    model = model_of()
    with pytest.raises(ValueError, match="there are no parts"):
        model._core.add_adapter([])
    with pytest.raises(TypeError, match="a part must be a dict"):
        model._core.add_adapter([3])
    with pytest.raises(ValueError, match="a part must have 'name'"):
        model._core.add_adapter([{"projection": "x"}])
    with pytest.raises(MemoryError, match="the adapter and its gradients"):
        model._core.add_adapter([part | {"rank": 2**40} for part in parts_of(model)])
    assert len(model.parameters(trainable=True)) == len(model.parameters())
    ids, targets = batch(2, 20)
    gradients = model.loss_and_grads(ids, targets)[1]
    for refused in (model._core.add_adapter, lambda _: model._core.add_modulation(2**40, "sigmoid", 0.1, False)):
        with pytest.raises(MemoryError):
            refused([part | {"rank": 2**40} for part in parts_of(model)])
    for name, kept in model._core.gradients().items():
        assert np.array_equal(kept, gradients[name]), name
    adapt(model)
    with pytest.raises(ValueError, match="has an adapter already; remove it first"):
        model._core.add_adapter(parts_of(model))
    model._core.remove_adapter()
    model._core.remove_adapter()  # there is none: nothing happens
