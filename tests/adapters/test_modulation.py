"""What attention does to the input of the feed-forward, as the core computes it: gradients, every way through the
stack, the cache, small storage, on and off, and what a trace and a birth say of it."""

from __future__ import annotations

import numpy as np
import pytest
from sweeps import DIRECTIONS
from variants import VARIANTS

import loopos
from loopos.choices import GATES
from loopos.health.doctor.stream import stream

ALL = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
SOME = [VARIANTS[name] for name in ("gpt2", "llama", "olmo2", "gemma3", "parallel", "gpt_neox")]
KINDS = [(gate, False) for gate in GATES] + [("sigmoid", True)]


def modulated(options, dtype="float32", gate="tanh", safe_mode=False, filled=True, weights=None, **more):
    """A model of which every number differs from its neighbours', the modulation's too where it is filled."""
    size = dict(vocab_size=19, context_length=70, n_layer=2, n_head=4, d_model=16)
    model = loopos.Model(loopos.ModelConfig(**{**size, **options, **more}), seed=1, dtype=dtype, weights=weights)
    rng = np.random.default_rng(0)
    for view in model.parameters().values():
        view += (0.1 * rng.standard_normal(view.shape)).astype(view.dtype)
    model._core.add_modulation(3, gate, 0.7, safe_mode)
    if filled:
        for view in model.parameters(trainable=True).values():
            view[...] = (0.5 * rng.standard_normal(view.shape)).astype(view.dtype)
    return model


def batch(rows, time):
    return np.random.default_rng(0).integers(0, 19, (2, rows, time))


def test_its_parameters_come_behind_those_of_the_model_which_are_frozen():
    model = modulated({}, filled=False)
    names = [f"blocks.{layer}.modulate.{kind}" for layer in (0, 1) for kind in ("A_proj", "B_add", "B_mult")]
    assert list(model.parameters())[-6:] == names
    assert list(model.parameters(trainable=True)) == names
    assert [view.shape for view in model.parameters(trainable=True).values()] == [(3, 16), (16, 3), (16, 3)] * 2
    assert not any(view.any() for view in model.parameters(trainable=True).values())
    model._core.remove_adapter()
    assert not set(names) & set(model.parameters())
    assert len(model.parameters(trainable=True)) == len(model.parameters())
    model._core.add_modulation(3, "tanh", 0.1, True)
    assert [name.rpartition(".")[2] for name in model.parameters(trainable=True)] == ["A_proj", "B_add"] * 2


def test_a_model_has_one_adapter_and_the_numbers_must_make_sense():
    model = modulated({})
    with pytest.raises(ValueError, match="add_modulation: the model has an adapter already; remove it first"):
        model._core.add_modulation(3, "tanh", 0.1, False)
    with pytest.raises(ValueError, match="add_adapter: the model has an adapter already; remove it first"):
        model._core.add_adapter([])
    model._core.remove_adapter()
    with pytest.raises(ValueError, match="add_modulation: rank must be 1 at least, got 0"):
        model._core.add_modulation(0, "tanh", 0.1, False)
    with pytest.raises(ValueError, match="add_modulation: gate must be one of 'sigmoid', 'tanh', 'document'"):
        model._core.add_modulation(3, "none", 0.1, False)
    with pytest.raises(ValueError, match="add_modulation: additive_scale must be finite, got nan"):
        model._core.add_modulation(3, "tanh", np.nan, False)
    model.freeze("*norm*")
    model._core.add_modulation(3, "tanh", 0.1, False)
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.up_proj\.weight is a weight of the model, which is frozen"):
        model._core.set_trainable("blocks.0.mlp.up_proj.weight", True)


@ALL
@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
def test_at_the_start_every_bit_is_the_models(options, gate):
    model = modulated(options, gate=gate, filled=False)
    ids, _ = batch(3, 20)
    found = model.forward(ids)
    model._core.remove_adapter()
    np.testing.assert_array_equal(found, model.forward(ids))


@ALL
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_derivatives(options, kind):
    model = modulated(options, "float64", *kind)
    report = loopos.gradcheck(model, tuple(batch(2, 9)), directions=DIRECTIONS)
    assert report.passed, report
    assert len(report.results) == 1 + len(model.parameters(trainable=True)) == 1 + 2 * (2 if kind[1] else 3)


@ALL
@pytest.mark.parametrize("kind", [("tanh", False), ("sigmoid", True)])
def test_the_forward_is_that_of_numpy(options, kind):
    model = modulated(options, "float64", *kind)
    ids, _ = batch(2, 9)
    _, logits = stream(model.config, model.parameters(), ids, modulation=dict(gate=kind[0], additive_scale=0.7))
    np.testing.assert_allclose(model.forward(ids), logits, rtol=1e-10, atol=1e-12)


@ALL
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("safe_mode", [False, True])
def test_in_parts_as_a_whole_and_watched_the_bits_are_the_same(options, dropout, safe_mode, thread_count):
    """With these sizes one and two threads take parts of the batch; with five the operations are cut, and with a probe
    nothing is fused."""
    model, (ids, targets) = modulated(options, safe_mode=safe_mode, dropout=dropout), batch(8, 33)
    found = []

    def step():
        total = model._core.accumulate(ids, targets, scale=0.1, step=3, seed=7)[0]
        found.append((total, {name: each.tobytes() for name, each in model._core.gradients().items()}))

    for threads in (1, 2, 5):
        thread_count(threads)
        step()
    fault = {"phase": "forward", "op": "", "tensor": "none", "index": [], "value": 0.0, "flag": False}
    number = model._core._add_plant({**fault, "step": None, "micro": None})
    step()
    model._core._remove_plant(number)
    assert found[1:] == found[:1] * 3
    assert len(found[0][1]) == (4 if safe_mode else 6)
    few = model.forward(ids[:1])  # one sequence is no part
    np.testing.assert_array_equal(model.forward(ids)[:1], few)


@ALL
def test_groups_of_a_batch_add_up(options):
    """What a pass of a few sequences gives is added up, micro-batches as well as one batch."""
    model, (ids, targets) = modulated(options, "float64"), batch(6, 9)
    model._core.accumulate(ids, targets, scale=0.1, step=0, seed=7)
    whole = {name: each.copy() for name, each in model._core.gradients().items()}
    for i in range(3):
        part = np.s_[2 * i : 2 * i + 2]
        model._core.accumulate(ids[part], targets[part], scale=0.1, step=0, seed=7, add=i > 0)
    for name, each in model._core.gradients().items():
        np.testing.assert_allclose(each, whole[name], rtol=1e-9, atol=1e-14)


def test_a_batch_too_large_for_one_pass_goes_in_groups():
    size = dict(vocab_size=19, context_length=256, n_layer=4, n_head=4, d_model=256)
    model = loopos.Model(loopos.ModelConfig(**size), seed=1)
    model._core.add_modulation(3, "tanh", 0.7, False)
    for view in model.parameters(trainable=True).values():
        view[...] = (0.1 * np.random.default_rng(0).standard_normal(view.shape)).astype(view.dtype)
    ids, targets = batch(8, 256)
    assert model._core.workspace_bytes(8, 256, True) < 1.5 * model._core.workspace_bytes(4, 256, True)
    model._core.accumulate(ids, targets, scale=0.1)
    whole = {name: each.copy() for name, each in model._core.gradients().items()}
    for part in (np.s_[:3], np.s_[3:]):
        model._core.accumulate(ids[part], targets[part], scale=0.1, add=part.start is not None)
    for name, each in model._core.gradients().items():
        assert np.linalg.norm(each - whole[name]) <= 1e-5 * np.linalg.norm(whole[name]), name


@pytest.mark.parametrize("options", SOME)
def test_gradients_under_dropout_are_the_derivatives(options):
    """Of one mask, which step and seed fix: a is what dropout leaves of the branch."""
    model, (ids, targets) = modulated(options, "float64", dropout=0.3), batch(3, 9)

    def loss():
        return model._core.accumulate(ids, targets, scale=1.0, step=3, seed=7)[0]

    loss()
    gradients = {name: each.copy() for name, each in model._core.gradients().items()}
    rng = np.random.default_rng(6)
    for name, view in model.parameters(trainable=True).items():
        way, kept = rng.standard_normal(view.shape), view.copy()
        found = []
        for step in (1e-5, -1e-5):
            view[...] = kept + step * way
            found.append(loss())
        view[...] = kept
        assert (found[0] - found[1]) / 2e-5 == pytest.approx(
            float(np.sum(gradients[name] * way)), rel=1e-6, abs=1e-8
        ), name


def test_switched_off_it_has_no_gradient(thread_count):
    model, (ids, targets) = modulated({}), batch(8, 33)
    for threads in (2, 5):  # in parts, as a whole
        thread_count(threads)
        model._core.adapter_enabled(True)
        model._core.accumulate(ids, targets, scale=0.1)
        assert all(each.any() for each in model._core.gradients().values())
        model._core.adapter_enabled(False)
        model._core.accumulate(ids, targets, scale=0.1)
        assert not any(each.any() for each in model._core.gradients().values())


@ALL
def test_switched_off_it_is_the_model_to_the_bit_and_on_again_itself(options):
    model, (ids, targets) = modulated(options), batch(3, 20)
    on, loss = model.forward(ids), model.loss(ids, targets)
    model._core.adapter_enabled(False)
    off, text = model.forward(ids), model.generate(ids[:, :4], 5)
    model._core.adapter_enabled(True)
    np.testing.assert_array_equal(model.forward(ids), on)
    assert model.loss(ids, targets) == loss
    assert not np.allclose(on, off)
    model._core.remove_adapter()
    np.testing.assert_array_equal(model.forward(ids), off)
    np.testing.assert_array_equal(model.generate(ids[:, :4], 5), text)


@ALL
def test_the_cache_continues_what_the_whole_gives(options):
    model, (ids, _) = modulated(options, "float64"), batch(2, 12)
    want = model.forward(ids)
    core = model._core
    core.start_generation(2, 12)
    at = 0
    for step in (5, 1, 1, 3, 2):
        found = core.next_logits(ids[:, at : at + step])
        at += step
        np.testing.assert_allclose(found, want[:, at - 1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("options", SOME)
def test_on_a_small_base_it_learns_as_on_the_numbers_that_stand_there(options, weights):
    small, (ids, targets) = modulated(options, weights=weights, filled=False), batch(3, 20)
    plain = modulated(options, filled=False)
    held = {each["name"]: small._core.load_stored(each["name"], 0, each["shape"][0]) for each in small._core.stored()}
    rng = np.random.default_rng(5)
    for name, view in plain.parameters().items():
        view[...] = held[name] if name in held else small.parameters()[name]
        if "modulate" in name:
            view[...] = small.parameters()[name][...] = 0.5 * rng.standard_normal(view.shape)
    np.testing.assert_allclose(small.forward(ids), plain.forward(ids), rtol=1e-4, atol=1e-5)
    gradients, want = small.loss_and_grads(ids, targets)[1], plain.loss_and_grads(ids, targets)[1]
    assert list(gradients) == list(want) == list(small.parameters(trainable=True))
    for name, each in gradients.items():
        assert each.dtype == np.float32
        assert np.linalg.norm(each - want[name]) <= 1e-4 * np.linalg.norm(want[name]), name


def test_a_trace_has_every_tensor_of_it():
    model, (ids, targets) = modulated(VARIANTS["gpt2"]), batch(2, 9)
    found = {
        (row["phase"], row["op"], row["tensor"].removeprefix("blocks.1.modulate."))
        for row in loopos.trace_step(model, ids, targets)
        if "blocks.1.modulate." in row["tensor"]
    }
    forward = [("linear", "u"), ("linear", "z"), ("linear", "d"), ("modulate", "y")]
    back = [("modulate", "dx"), ("modulate", "dz"), ("modulate", "dd"), ("linear", "du_add"), ("linear", "du_mult")]
    back += [("add", "du"), ("linear", "da"), ("linear", "A_proj"), ("linear", "B_add"), ("linear", "B_mult")]
    weights = [("parameter", name) for name in ("A_proj", "B_add", "B_mult")]
    assert found == {("forward", *each) for each in weights + forward} | {("backward", *each) for each in back}


@pytest.mark.parametrize(
    ("matrix", "value", "op", "tensor", "cause"),
    [
        ("A_proj", 2e38, "linear", "u", "overflow"),
        ("B_mult", 2e38, "linear", "z", "overflow"),
        ("B_add", 2e38, "linear", "d", "overflow"),
    ],
)
def test_a_birth_is_named(matrix, value, op, tensor, cause):
    model, (ids, targets) = modulated(VARIANTS["gpt2"]), batch(2, 9)
    model.parameters()["blocks.1.attn.o_proj.bias"][...] = 3
    model.parameters()["blocks.1.modulate.A_proj"][...] = 30
    model.parameters()[f"blocks.1.modulate.{matrix}"][...] = value
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(ids, targets)
    birth = caught.value.birth
    assert (birth.phase, birth.layer, birth.op, birth.tensor) == ("forward", 1, op, f"blocks.1.modulate.{tensor}")
    assert cause in birth.cause


def test_what_the_modulation_itself_overflows_is_explained():
    """The product of x and its gate, and of d and its scale."""
    model, (ids, targets) = modulated(VARIANTS["gpt2"], gate="sigmoid"), batch(2, 9)
    model.parameters()["blocks.1.mlp_norm.weight"][...] = 0
    model.parameters()["blocks.1.mlp_norm.bias"][...] = 3e38
    model.parameters()["blocks.1.modulate.B_mult"][...] = 0
    model.parameters()["blocks.1.modulate.B_mult"][:, 0] = 1e4
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(ids, targets)
    birth = caught.value.birth
    assert (birth.layer, birth.op, birth.tensor) == (1, "modulate", "blocks.1.modulate.y")
    assert birth.cause.startswith("product overflow: x 3e+38 times gate 1.5 is 4.5e+38"), birth.cause
