"""Models whose weights are stored small: the bits of a float32 model with the stored numbers; frozen; refused where
they make no sense."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

import loopos
from loopos import NonFiniteError, optim, storage
from loopos.births.birth import find_birth
from loopos.files.mapped import map_safetensors
from loopos.precision import Arithmetic

SMALL = ("bfloat16", "int8", "int4", "int4-symmetric")
# of the projections, of the token tables, and how far numbers of a normal distribution are from what is stored
KINDS = {
    "bfloat16": ("bfloat16", "bfloat16", 0.003),
    "int8": ("int8", "int8", 0.01),
    "int4": ("nf4", "int8", 0.1),
    "int4-symmetric": ("int4-symmetric", "int8", 0.11),
}


def twins(config, weights, seed=3):
    """A model that is stored small, and a float32 model with the numbers that are stored."""
    small, plain = loopos.Model(config, seed=seed, weights=weights), loopos.Model(config, seed=seed)
    before = plain.state_dict()
    numbers = storage.all_weights(small._core)
    assert list(numbers) == list(before)
    plain.load_state_dict(numbers)
    return small, plain, before


@pytest.mark.parametrize("weights", SMALL)
@pytest.mark.parametrize("rows", [1, 6])
def test_computes_what_the_stored_numbers_give(family, batch, weights, rows):
    small, plain, before = twins(family, weights)
    ids, targets = batch(family, rows=rows)
    assert small.forward(ids).tobytes() == plain.forward(ids).tobytes()
    assert small.loss(ids, targets) == plain.loss(ids, targets)
    assert not np.array_equal(small.forward(ids), loopos.Model(family, seed=3).forward(ids))
    for seed, temperature in ((0, 0.0), (1, 1.0)):
        texts = [m.generate(ids[:, :4], 8, temperature=temperature, seed=seed) for m in (small, plain)]
        np.testing.assert_array_equal(*texts)
    matrices = [name for name, value in before.items() if value.ndim == 2 and name != "pos_embed.weight"]
    assert list(small.storage_errors()) == matrices
    for name, error in small.storage_errors().items():
        off = storage.all_weights(small._core)[name].astype(np.float64) - before[name]
        table = name in ("tok_embed.weight", "lm_head.weight")
        assert error["storage"] == KINDS[weights][1 if table else 0]
        assert error["largest"] == np.abs(off).max()
        want = np.sqrt(np.sum(off**2) / np.sum(before[name].astype(np.float64) ** 2))
        assert error["relative"] == pytest.approx(want, rel=1e-12)
        assert 0 < error["relative"] < (0.01 if table else KINDS[weights][2])


@pytest.mark.parametrize("weights", SMALL)
def test_threads_change_no_bit(family, batch, weights, thread_count):
    ids, targets = batch(family)
    results = set()
    for threads in (1, 2, 5):
        thread_count(threads)
        model = loopos.Model(family, seed=1, weights=weights)
        results.add(model.forward(ids).tobytes() + np.float64(model.loss(ids, targets)).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("weights", SMALL)
def test_backward_goes_through_to_the_input(family, batch, weights):
    """Traced: the gradients of activations are those of the float32 model. Norms and biases are made trainable by hand:
    an adapter will stand in their place."""
    small, plain, _ = twins(family, weights)
    ids, targets = batch(family)
    gradients = []
    for model in (small, plain):
        for name in model.parameters():
            model._core.set_trainable(name, name.endswith("norm.weight"))
        model._core.accumulate(ids, targets, scale=0.1)
        gradients.append({name: g.copy() for name, g in model._core.gradients().items()})
    assert list(gradients[0]) == list(gradients[1])
    assert all(np.any(g != 0) for g in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert gradient.tobytes() == gradients[1][name].tobytes(), name


@pytest.mark.parametrize("weights", SMALL)
@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_learns_on_them_as_on_the_stored_numbers(family, batch, weights, dora):
    small, plain, _ = twins(family, weights)
    before = storage.state(small._core)
    ids, targets = batch(family)
    for model in (small, plain):
        model.add_adapter(loopos.LoRA(rank=2, dora=dora), seed=1)
        optimizer = optim.AdamW(model, lr=0.1)
        for _ in range(2):
            optimizer.step(model.loss_and_grads(ids, targets)[1])
    for name, view in small.parameters(trainable=True).items():
        assert view.tobytes() == plain.parameters()[name].tobytes(), name
    assert small.loss(ids, targets) == plain.loss(ids, targets)
    for name, (bytes_of, *_) in storage.state(small._core).items():
        np.testing.assert_array_equal(bytes_of, before[name][0])


@pytest.mark.parametrize("weights", SMALL)
def test_only_norms_and_biases_are_parameters_and_nothing_trains(family, batch, weights):
    model = loopos.Model(family, weights=weights)
    assert model.weights == weights
    assert f"weights={weights!r}" in repr(model)
    assert loopos.Model(family).weights == "float32"
    assert loopos.Model(family, dtype="float64").weights == "float64"
    assert "weights=" not in repr(loopos.Model(family))
    assert not set(model.parameters()) & set(model.storage_errors())
    assert model.parameters(trainable=True) == {}
    ids, targets = batch(family)
    only = "only adapters can be trained"
    with pytest.raises(ValueError, match=only):
        model.loss_and_grads(ids, targets)
    with pytest.raises(ValueError, match=only):
        loopos.train(model, np.arange(99) % 31, max_steps=1, seq_len=8, progress=False)
    with pytest.raises(ValueError, match=only):
        model.unfreeze()
    with pytest.raises(ValueError, match=only):
        loopos.doctor(model, np.arange(99) % 31, seq_len=8)
    with pytest.raises(ValueError, match=only):
        optim.AdamW(model)
    assert model.freeze() == list(model.parameters())


def test_one_place_refuses_what_makes_no_sense(family):
    with pytest.raises(ValueError, match="weights='int8' goes with dtype='float32', got dtype='float64'"):
        loopos.Model(family, dtype="float64", weights="int8")
    with pytest.raises(ValueError, match="weights must be"):
        loopos.Model(family, weights="int3")
    assert loopos.Model(family, weights="float32").weights == "float32"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [None, *SMALL])
def test_a_model_is_refused_by_what_its_storage_takes(family, weights, dtype, monkeypatch):
    if weights is not None and dtype == "float64":
        return
    arithmetic = Arithmetic.of("f", dtype, weights)
    needed = arithmetic.bytes(family) + 8192 * family.n_layer
    monkeypatch.setattr(storage._core, "available_bytes", lambda: float(needed))
    storage.refuse_oversized(family, arithmetic)
    monkeypatch.setattr(storage._core, "available_bytes", lambda: float(needed - 1))
    with pytest.raises(MemoryError, match=f"take {needed} bytes, and {needed - 1} bytes are available"):
        storage.refuse_oversized(family, arithmetic)


@pytest.mark.parametrize("weights", SMALL)
def test_copies_have_the_same_bits(family, batch, weights):
    model = loopos.Model(family, seed=2, weights=weights)
    ids, _ = batch(family)
    want = model.forward(ids).tobytes()
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.weights == weights
        assert twin.storage_errors() == model.storage_errors()
        assert twin.forward(ids).tobytes() == want
        assert twin.parameters(trainable=True) == {}


@pytest.mark.parametrize("weights", SMALL)
def test_folders(family, batch, weights, tmp_path):
    plain = loopos.Model(family, seed=5)
    plain.save_pretrained(tmp_path / "plain")
    ids, _ = batch(family)
    model = loopos.Model.from_pretrained(tmp_path / "plain", weights=weights)
    assert (model.weights, model.dtype) == (weights, "float32")
    assert model.forward(ids).tobytes() == loopos.Model(family, seed=5, weights=weights).forward(ids).tobytes()
    if weights != "bfloat16":
        with pytest.raises(ValueError, match=f"stored as {weights}"):
            model.save_pretrained(tmp_path / "again")
        return
    for view in model.parameters().values():
        view.view(np.uint32)[...] &= 0xFFFF0000  # as a BF16 file has them
    for kind, said in (("BF16", "bfloat16"), ("F32", "float32")):
        model.save_pretrained(tmp_path / kind)
        assert json.loads((tmp_path / kind / "config.json").read_text())["dtype"] == said
        assert {each.dtype for each in map_safetensors(tmp_path / kind / "model.safetensors").values()} == {kind}
        again = loopos.Model.from_pretrained(tmp_path / kind, dtype="float32")
        numbers = storage.all_weights(model._core)
        for name, value in again.parameters().items():
            assert value.tobytes() == numbers[name].tobytes(), name
        model.parameters()["final_norm.weight"][3] = 1 + 2**-20  # which bfloat16 has no digits for
    model.parameters()["final_norm.weight"][3] = np.inf
    with pytest.raises(NonFiniteError) as caught:
        model.save_pretrained(tmp_path / "BF16")
    assert (caught.value.birth.tensor, caught.value.birth.index) == ("final_norm.weight", (3,))
    assert caught.value.birth.value == np.inf


@pytest.mark.parametrize("weights", SMALL)
def test_what_is_stored_over_leaves_no_trace(family, weights):
    """Zeros over numbers: no number of the old ones stays behind a scale of 0."""
    one, other = (loopos.Model(family, seed=seed, weights=weights)._core for seed in (1, 2))
    for each in one.stored():
        name, shape = each["name"], each["shape"]
        for core in (one, other):
            assert core.store(name, 0, np.zeros(shape, np.float32)) == -1
        (bytes_of, *errors), (same, *_) = one.get_stored(name), other.get_stored(name)
        np.testing.assert_array_equal(bytes_of, same)
        assert not one.load_stored(name, 0, shape[0]).view(np.uint32).any(), name
        assert each["storage"] not in ("bfloat16", "int8") or not bytes_of.any()
        assert errors == [0, 0, 0]


def test_rows_that_do_not_lie_in_a_weight_are_refused(family):
    core = loopos.Model(family, weights="int8")._core
    each = core.stored()[0]
    (name, (out, width)), last = (each["name"], each["shape"]), 2**63 - 1
    for first, rows in ((-1, 1), (out, 1), (0, out + 1), (last, 1), (last, out)):
        with pytest.raises(ValueError, match=rf"store: {rows} rows from {first} on"):
            core.store(name, first, np.zeros((rows, width), np.float32))
    for first, rows in ((-1, 1), (out, 1), (0, out + 1), (0, -1), (last, 1), (1, last)):
        with pytest.raises(ValueError, match=rf"load: {rows} rows from {first} on"):
            core.load_stored(name, first, rows)


def test_float64_folders(family, tmp_path):
    loopos.Model(family, dtype="float64").save_pretrained(tmp_path)
    assert loopos.Model.from_pretrained(tmp_path).weights == "float64"
    assert loopos.Model.from_pretrained(tmp_path, weights="int8").dtype == "float32"
    with pytest.raises(ValueError, match="goes with dtype='float32'"):
        loopos.Model.from_pretrained(tmp_path, weights="int8", dtype="float64")


def test_a_run_opens_stored_small(family, batch, tmp_path):
    model = loopos.Model(family, seed=1)
    text = np.arange(200) % family.vocab_size
    loopos.train(model, text, max_steps=2, seq_len=8, output_dir=tmp_path, progress=False)
    small = loopos.Model.from_pretrained(tmp_path, weights="bfloat16")
    errors = small.storage_errors()
    assert max(error["relative"] for error in errors.values()) < 0.003
    ids, _ = batch(family)
    np.testing.assert_allclose(small.forward(ids), model.forward(ids), rtol=0, atol=0.02)


def test_the_place_in_a_later_piece_is_that_in_the_weight(family):
    core = loopos.Model(family, weights="int8")._core
    rows = np.zeros((31, 32), np.float32)
    rows[20, 3] = np.nan
    with pytest.raises(NonFiniteError, match=r"tok_embed\.weight\[20, 3\] is nan") as caught:
        storage.fill(core, "tok_embed.weight", [(0, rows[:12]), (12, rows[12:])])
    assert caught.value.birth.index == (20, 3)


@pytest.mark.parametrize("weights", SMALL)
@pytest.mark.parametrize("value", [np.nan, np.inf, 3.4e38])
def test_what_cannot_be_stored_is_refused_by_name(family, weights, value, tmp_path):
    model = loopos.Model(family)
    name = next(n for n in model.parameters() if n.startswith("blocks.1.mlp.") and n.endswith("up_proj.weight"))
    model.parameters()[name][20, 3] = value
    found = loopos.saved.Saved(family, model.state_dict())
    error = ValueError if np.isfinite(value) else NonFiniteError
    with pytest.raises(error, match=rf"{name}\[20, 3\] is .* cannot be stored as {KINDS[weights][0]}") as caught:
        loopos.Model.of(found, weights)
    if error is NonFiniteError:
        birth = caught.value.birth
        assert (birth.phase, birth.layer, birth.tensor, birth.index) == ("forward", 1, name, (20, 3))


@pytest.mark.parametrize("weights", SMALL)
def test_a_birth_names_the_operation_and_its_operands(family, batch, weights):
    """A norm weight that is huge makes the projection behind it overflow; the cause is computed from its operands."""
    model = loopos.Model(family, weights=weights)
    ids, targets = batch(family)
    model.parameters()["blocks.1.mlp_norm.weight"][...] = 3e38
    _, _, healthy = model._core.accumulate(ids, targets, scale=1.0)
    assert not healthy
    raised = {0: model._core.raised()}
    birth = find_birth(
        model._core, [(ids, targets, {"scale": 1.0})], loss=float("nan"), norm=0.0, step=None, raised=raised
    )
    assert birth is not None
    assert birth.layer == 1
    assert birth.phase == "forward"
