"""A loss that is not next-token cross-entropy, through the core: worked out in Python between forward and backward, or
learned of a teacher."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos import losses, ops

V = 41
SMALL = {"n_layer": 2, "n_head": 2, "d_model": 16}
SHAPES = {"parts": (SMALL, (12, 16), "float32"), "whole": (SMALL, (3, 16), "float64")}
GROUPS = {"n_layer": 8, "n_head": 4, "d_model": 64}, (72, 64), "float64"  # more than the core takes at once
LOSSES = {"mse": losses.mse, "normalized_mse": losses.normalized_mse, "cosine": losses.cosine}


def make(sizes, shape, dtype):
    config = loopos.ModelConfig(V, 64, **sizes, norm="rmsnorm", position="rope", dropout=0.1)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, V, (2, *shape))
    targets[rng.random(shape) < 0.3] = -100
    documents = np.sort(rng.integers(0, 3, shape), axis=1)
    model, teacher = loopos.Model(config, seed=1, dtype=dtype), loopos.Model(config, seed=2, dtype=dtype)
    return model, teacher, ids, targets, documents


@pytest.fixture(params=SHAPES)
def case(request):
    return make(*SHAPES[request.param])


def gradients(core, *args, **keywords):
    """(sum, healthy, every gradient as one array) of a step with dropout, over documents."""
    total, _, healthy = core.accumulate(*args, **{"scale": 0.01, "step": 3, "seed": 5} | keywords)
    assert healthy
    return total, np.concatenate([g.ravel() for g in core.gradients().values()])


def close(got, want, dtype):
    tolerance = 1e-12 if dtype == "float64" else 3e-6
    np.testing.assert_allclose(got[0], want[0], rtol=tolerance)
    assert np.linalg.norm(want[1]) > 0
    assert np.linalg.norm(got[1] - want[1]) < tolerance * np.linalg.norm(want[1])


def test_cross_entropy_again(case):
    """The engine's own loss, worked out in Python from logits, hidden states and losses."""
    model, _, ids, targets, documents = case
    core, seen = model._core, []
    want = gradients(core, ids, targets, documents=documents)

    def of_logits(logits):
        seen.append(logits.shape)
        flat = logits.reshape(-1, V), targets.ravel()
        loss, _ = ops.cross_entropy(*flat, reduction="sum")
        return loss, ops.cross_entropy_backward(0.01, *flat, reduction="sum").reshape(logits.shape)

    def of_losses(each):
        seen.append(each.shape)
        return each.sum(), np.full(each.shape, 0.01)

    close(gradients(core, ids, targets, documents=documents, between=("logits", of_logits)), want, model.dtype)
    close(gradients(core, ids, targets, documents=documents, between=("losses", of_losses)), want, model.dtype)
    assert seen == [(*ids.shape, V), ids.shape]  # once, of all of the batch


def test_groups():
    """A batch that goes through the core in several groups of sequences."""
    model, teacher, ids, targets, documents = make(*GROUPS)
    core, hidden = model._core, teacher._core.hidden(ids, documents)
    assert core.workspace_bytes(72, 64, True) < 0.8 * 72 * core.workspace_bytes(1, 64, True)
    want = gradients(core, ids, targets, documents=documents)
    weights = ("losses", lambda each: (each.sum(), np.full(each.shape, 0.01)))
    close(gradients(core, ids, targets, documents=documents, between=weights), want, model.dtype)
    taught = {"loss": "mse", "hidden": hidden, "teacher": teacher._core, "temperature": 1.0, "weight": 1.0}
    counts = (targets != -100)[..., None]

    def by_hidden(states):
        apart = (states - hidden) * counts
        return (apart**2).sum() / 64, 0.02 * apart / 64

    got = gradients(core, ids, targets, documents=documents, teaching=taught | {"cross_entropy": 0.0})
    close(got, gradients(core, ids, targets, documents=documents, between=("hidden", by_hidden)), model.dtype)


def test_gradients_are_added(case):
    model, _, ids, targets, _ = case
    core = model._core
    once = gradients(core, ids, targets, between=("losses", lambda each: (1.0, np.full(each.shape, 0.5))))
    twice = gradients(core, ids, targets, between=("losses", lambda each: (1.0, np.full(each.shape, 0.5))), add=True)
    np.testing.assert_allclose(twice[1], 2 * once[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cross_entropy", [0.0, 0.5])
@pytest.mark.parametrize("name", ["kl", *LOSSES])
def test_teaching(case, name, cross_entropy):
    """Fused with the forward of the head, and the same worked out in Python."""
    model, teacher, ids, targets, documents = case
    core = model._core
    hidden = teacher._core.hidden(ids, documents)
    settings = {"loss": name, "hidden": hidden, "teacher": teacher._core, "temperature": 2.0, "weight": 0.7}
    counts = (targets != -100).ravel()
    theirs = teacher.forward(ids, documents=documents).reshape(-1, V)

    def by_logits(logits):
        flat = logits.reshape(-1, V)
        loss, gradient = losses.kl(flat[counts], theirs[counts], temperature=2.0)
        total, dlogits = 0.7 * loss * counts.sum(), np.zeros_like(flat)
        dlogits[counts] = 0.7 * gradient * counts.sum()
        total += cross_entropy * ops.cross_entropy(flat, targets.ravel(), reduction="sum")[0]
        dlogits += ops.cross_entropy_backward(cross_entropy, flat, targets.ravel(), reduction="sum")
        return total, (0.01 * dlogits).reshape(logits.shape)

    def by_hidden(states):
        flat, goal = states.reshape(counts.size, -1), hidden.reshape(counts.size, -1)
        loss, gradient = LOSSES[name](flat[counts], goal[counts])
        dstates = np.zeros_like(flat)
        dstates[counts] = 0.01 * 0.7 * gradient * counts.sum()
        return 0.7 * loss * counts.sum(), dstates.reshape(states.shape)

    got = gradients(core, ids, targets, documents=documents, teaching=settings | {"cross_entropy": cross_entropy})
    if name == "kl":
        want = gradients(core, ids, targets, documents=documents, between=("logits", by_logits))
    else:
        want = gradients(core, ids, targets, documents=documents, between=("hidden", by_hidden))
        if cross_entropy:
            own = gradients(core, ids, targets, documents=documents, scale=0.01 * cross_entropy)
            want = want[0] + cross_entropy * own[0], want[1] + own[1]
    close(got, want, model.dtype)


def test_a_model_that_teaches_itself_has_nothing_to_learn(case):
    model, _, ids, targets, documents = case
    hidden = model._core.hidden(ids, documents)
    for name in ("kl", *LOSSES):
        settings = {"loss": name, "hidden": hidden, "teacher": None, "temperature": 1.0, "weight": 1.0}
        total, gradient = gradients(
            model._core, ids, targets, step=None, documents=documents, teaching=settings | {"cross_entropy": 0.0}
        )
        assert abs(total) < 1e-9
        assert np.abs(gradient).max() < 1e-9


def test_hidden_states_and_the_head_are_the_logits(case):
    model, _, ids, _, documents = case
    hidden = model._core.hidden(ids, documents)
    assert hidden.shape == (*ids.shape, model.config.d_model)
    logits = hidden @ model.parameters()["tok_embed.weight"].T
    np.testing.assert_allclose(logits, model.forward(ids, documents=documents), rtol=1e-4, atol=1e-5)


def test_any_number_of_threads_gives_the_same_bits(case, thread_count):
    model, teacher, ids, targets, documents = case
    settings = {"loss": "kl", "hidden": teacher._core.hidden(ids, documents), "teacher": teacher._core}
    settings |= {"temperature": 2.0, "weight": 0.7, "cross_entropy": 0.3}
    calls = {"teaching": settings}, {"between": ("losses", lambda each: (each.sum(), np.cos(each)))}
    for keywords in calls:
        found = set()
        for threads in (1, 2, 3):
            thread_count(threads)
            total, gradient = gradients(model._core, ids, targets, documents=documents, **keywords)
            found.add((total, gradient.tobytes()))
        assert len(found) == 1


def test_a_loss_of_ones_own_and_its_gradient():
    """Through the model's public face: checked by differences in its weights."""
    model = loopos.Model(loopos.ModelConfig(V, 16, 2, 2, 8), dtype="float64")
    ids = np.random.default_rng(0).integers(0, V, (2, 7))

    def of_hidden(states):
        return float((states**3).sum()), 3 * states**2

    value, gradients = model.loss_and_grads(ids, ids, loss=of_hidden, of="hidden")
    assert value == pytest.approx(of_hidden(model.hidden(ids))[0], rel=1e-12)
    rng = np.random.default_rng(1)
    for name, weight in model.parameters().items():
        direction, step = rng.standard_normal(weight.shape), 1e-6
        want = 0.0
        for sign in (1, -1):
            weight += sign * step * direction
            want += sign * of_hidden(model.hidden(ids))[0] / (2 * step)
            weight -= sign * step * direction
        if name.startswith("lm_head"):
            continue
        assert np.sum(gradients[name] * direction) == pytest.approx(want, rel=1e-5, abs=1e-6), name
    with pytest.raises(loopos.NonFiniteError, match="loss"):
        model.loss_and_grads(ids, ids, loss=lambda x: (1.0, np.full_like(x, np.nan)), of="hidden")


def test_a_gradient_that_is_not_finite_is_found():
    model = loopos.Model(loopos.ModelConfig(V, 8, 1, 2, 8))
    ids = np.zeros((2, 4), int)

    def bad(states):
        gradient = np.zeros_like(states)
        gradient[1, 2, 3] = np.nan
        return 1.0, gradient

    found = model._core.trace(ids, ids, scale=1.0, between=("hidden", bad))
    assert found["phase"] == "backward"
    assert found["tensor"] == "final.dx"
    assert tuple(found["index"]) == (1, 2, 3)


def test_a_trace_sees_the_gradient_of_the_head_whoever_gives_that_of_the_logits():
    core = loopos.Model(loopos.ModelConfig(V, 8, 1, 2, 8, tie_embeddings=False))._core
    ids = np.zeros((2, 4), int)
    for how in ({}, {"between": ("logits", lambda logits: (1.0, np.ones_like(logits)))}):
        assert core.trace(ids, ids, scale=1.0, **how) is None
        assert [frame["op"] for frame in core.ledger() if frame["tensor"] == "lm_head.weight"][-1] == "linear"


@pytest.mark.parametrize("of", ["hidden", "logits", "losses"])
def test_what_the_function_raises_is_no_operation_of_the_model(of):
    """Floating-point flags: of an inf that the function computes with and does not give back."""
    core = loopos.Model(loopos.ModelConfig(V, 8, 1, 2, 8))._core
    ids = np.zeros((2, 4), int)

    def own(values):
        infinite = float("inf")
        assert np.isnan(infinite - infinite)
        return 0.0, np.ones_like(values)

    assert core.accumulate(ids, ids, scale=1.0, between=(of, own))[2]
    assert not core.raised()


def test_refusals():
    model = loopos.Model(loopos.ModelConfig(V, 8, 1, 2, 8))
    other = loopos.Model(loopos.ModelConfig(V + 1, 8, 1, 2, 16))
    core, ids = model._core, np.zeros((2, 4), int)

    def call(**keywords):
        return core.accumulate(ids, ids, scale=1.0, **keywords)

    for bad in (None, 1.0, (1.0,), (1.0, None), (1.0, np.zeros((2, 4), np.float32))):
        with pytest.raises(TypeError, match="loss: "):
            call(between=("losses", lambda _, bad=bad: bad))
    with pytest.raises(ValueError, match=r"loss: gradient must have shape \(2, 4, 8\), got \(2, 4\)"):
        call(between=("hidden", lambda _: (1.0, np.zeros((2, 4), np.float32))))
    with pytest.raises(ValueError, match="between"):
        call(between=("words", lambda _: None))
    with pytest.raises(ZeroDivisionError):
        call(between=("losses", lambda _: 1 / 0))
    with pytest.raises(RuntimeError, match="must not call the model that it is the loss of"):
        call(between=("losses", lambda each: (core.loss(ids, ids)[0], each)))
    assert call()[2]  # and nothing is left of it all
    settings = {"loss": "kl", "hidden": other._core.hidden(ids), "teacher": other._core, "temperature": 1.0}
    settings |= {"weight": 1.0, "cross_entropy": 0.0}
    with pytest.raises(ValueError, match="a teacher of 42 logits does not fit a student of 41"):
        call(teaching=settings)
    with pytest.raises(ValueError, match="a teacher of d_model 16 does not fit a student of 8"):
        call(teaching=settings | {"loss": "mse"})
    with pytest.raises(ValueError, match=r"hidden must have shape \(2, 4, 8\), got \(2, 4, 16\)"):
        call(teaching=settings | {"teacher": None})
