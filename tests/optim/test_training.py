"""The optimizer of a run: every rule trains, resumes and refuses as a whole; Muon has AdamW beside it."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos import NonFiniteError, optim
from loopos.optim.base import Optimizer
from loopos.optim.training import RULES, for_run, for_training, settings_of

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=2, n_head=2, d_model=16)
IDS = np.resize(np.random.default_rng(0).permutation(32), 2000)
RATES = {"adamw": 3e-3, "adam": 3e-3, "sgd": 0.3, "lion": 3e-3, "muon": 1e-2}


def train(rule, **changed):
    settings = {"max_steps": 30, "batch_size": 4, "learning_rate": RATES[rule], "log_every": 1, "progress": False}
    return loopos.train(changed.pop("model", CONFIG), IDS, optimizer=rule, **settings | changed)


def weights(result):
    return [view.tobytes() for view in result.model.parameters().values()]


def hidden(name, array):
    return name.startswith("blocks.") and array.ndim == 2


@pytest.mark.parametrize("rule", RULES)
def test_a_small_model_learns(rule):
    losses = [entry["loss"] for entry in train(rule, max_steps=60).history]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


@pytest.mark.parametrize("rule", RULES)
def test_a_resumed_run_ends_with_the_same_bits_on_any_number_of_threads(rule, tmp_path):
    whole = train(rule, output_dir=tmp_path / "whole", threads=1)
    train(rule, output_dir=tmp_path / "parts", save_every=7, threads=3, callbacks=[StopAfter(14)])
    rest = train(rule, output_dir=tmp_path / "parts", resume="auto", threads=2)
    assert weights(whole) == weights(rest)


class StopAfter:
    def __init__(self, step):
        self.last = step

    def on_step_end(self, info):
        return info["step"] == self.last


def test_rate_zero_keeps_every_bit():
    for rule in RULES:
        model = loopos.Model(CONFIG, seed=1)
        before = [view.tobytes() for view in model.parameters().values()]
        assert weights(train(rule, model=model, learning_rate=0.0, max_steps=3)) == before


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest():
    """One step of both together is a step of each alone, bit for bit."""
    model = loopos.Model(CONFIG, seed=1)
    start, grads = model.state_dict(), {n: 0.1 + np.cos(v) for n, v in model.state_dict().items()}
    both = for_run("muon", model, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.25, matrix_rate=2.0)
    for _ in range(3):
        both.step(grads, lr=0.01)
    matrices = {n: v for n, v in start.items() if hidden(n, v)}
    decayed = {n: v for n, v in start.items() if not hidden(n, v) and v.ndim == 2}
    plain = {n: v for n, v in start.items() if not hidden(n, v) and v.ndim < 2}
    assert all((matrices, decayed, plain))
    muon = optim.Muon(matrices, 0.02, weight_decay=0.25)
    adamw = [optim.AdamW(d, 0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=w) for d, w in ((decayed, 0.25), (plain, 0))]
    for _ in range(3):
        for part in (muon, *adamw):
            part.step({n: grads[n] for n in part._params})
    for name, view in model.parameters().items():
        assert view.tobytes() == {**matrices, **decayed, **plain}[name].tobytes(), name
    kept = set(both.state_dict())
    assert {f"momentum.{n}" for n in matrices} < kept
    assert {f"exp_avg_sq.{n}" for n in (*decayed, *plain)} < kept
    assert len(kept) == 1 + len(matrices) + 2 * len(decayed) + 2 * len(plain)


@pytest.mark.parametrize("bad", ["blocks.1.mlp.up_proj.weight", "tok_embed.weight", "final_norm.bias"])
@pytest.mark.parametrize("way", ["gradient", "update"])
def test_a_refusal_of_one_rule_leaves_both_untouched(bad, way):
    model = loopos.Model(CONFIG, seed=1)
    optimizer = for_run("muon", model)
    grads = {n: np.full_like(v, -1 if n == bad else 1) for n, v in model.parameters().items()}
    optimizer.step(grads, lr=1e-3)
    if way == "gradient":
        grads[bad] = np.full_like(grads[bad], np.nan)
    else:  # the rate takes it out of the range, by decay or by the step, and no other weight
        model.parameters()[bad][...] = np.finfo(np.float32).max

    def everything():
        return {n: np.asarray(v).tobytes() for n, v in {**model.parameters(), **optimizer.state_dict()}.items()}

    before = everything()
    with pytest.raises(NonFiniteError) as caught:
        optimizer.step(grads, lr=1e37)
    birth, rule = caught.value.birth, "muon" if hidden(bad, grads[bad]) else "adamw"
    assert (birth.tensor, birth.phase) == (bad, "backward" if way == "gradient" else "update")
    assert birth.op == ("gradient" if way == "gradient" else rule)
    assert before == everything()


def test_muon_lr_is_for_the_matrices_alone():
    one, same = train("muon", muon_lr=None), train("muon", muon_lr=RATES["muon"])
    assert weights(one) == weights(same)
    model = loopos.Model(CONFIG, seed=1)
    start = model.state_dict()
    train("muon", model=model, muon_lr=0.0, max_steps=3)
    for name, view in model.parameters().items():
        assert np.array_equal(view, start[name]) == hidden(name, view), name
    with pytest.raises(ValueError, match="muon_lr follows the schedule in proportion to learning_rate, which is 0"):
        train("muon", muon_lr=0.1, learning_rate=0.0)
    with pytest.raises(ValueError, match="muon_lr must be"):
        train("muon", muon_lr=-1.0)
    with pytest.warns(UserWarning, match="muon_lr=0.1 does nothing with optimizer='adamw'"):
        train("adamw", muon_lr=0.1, max_steps=1)


def test_which_settings_a_rule_uses():
    for rule in RULES:
        one, two = (train(rule, betas=betas, max_steps=4) for betas in ((0.9, 0.95), (0.5, 0.6)))
        assert (weights(one) == weights(two)) == ("betas" not in settings_of(rule)), rule


def test_training_optimizer_decays_matrices_only():
    class Core:
        def gradients(self):
            return {"blocks.0.w": np.zeros((2, 2)), "b": np.zeros(2)}

    class Stub:
        _core = Core()
        weights = {"blocks.0.w": np.ones((2, 2)), "b": np.ones(2)}  # noqa: RUF012

        def parameters(self):
            return self.weights

    for rule in RULES:
        model = Stub()
        model.weights = {"blocks.0.w": np.ones((2, 2)), "b": np.ones(2)}
        optimizer = for_training(rule, model, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.5)
        assert optimizer.step_core(0.1, 1.0) is None
        assert (model.weights["blocks.0.w"] < 1).all()
        assert (model.weights["b"] == 1).all()
    with pytest.raises(ValueError, match="'adamw', 'adam', 'sgd', 'lion', 'muon', got 'adagrad'"):
        for_training("adagrad", Stub())


class Writes:
    """Writes NaN after the third step to a weight that no token of a run reads: only the optimizer can find it."""

    def __init__(self, model, kept):
        self.model, self.view = model, model.parameters()["pos_embed.weight"] if kept else None

    def on_step_end(self, info):
        if info["step"] == 3:
            view = self.model.parameters()["pos_embed.weight"] if self.view is None else self.view
            view[-1, 5] = np.nan


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_a_weight_that_a_callback_writes_is_looked_at(rule, kept):
    """Through a view that it has kept, or through one that is gone again when the next step comes."""
    model = loopos.Model(CONFIG, seed=1)
    with pytest.raises(NonFiniteError) as caught:
        train(rule, model=model, seq_len=4, callbacks=[Writes(model, kept)])
    birth = caught.value.birth
    assert (birth.step, birth.tensor, birth.index) == (4, "pos_embed.weight", (7, 5))


@pytest.mark.parametrize("rule", RULES)
def test_weights_are_read_for_their_size_only_where_somebody_may_have_written(rule):
    model = loopos.Model(CONFIG, seed=1)
    optimizer = for_training(rule, model, weight_decay=0.1)
    asked, step = [], optimizer._optimizer._step
    optimizer._optimizer._step = lambda *given: asked.append(given[-1]) or step(*given)

    def update():
        model._core.accumulate(IDS[None, :8], IDS[None, 1:9], scale=1 / 8)
        assert optimizer.step_core(0.01, 1.0, model._core.grad_norm()) is None

    update()
    update()
    kept = model.parameters()["pos_embed.weight"][2:]  # a view of a view
    update()
    update()
    del kept
    update()
    update()
    model.state_dict()
    update()
    update()
    model.freeze("tok_embed.*")
    model.unfreeze("tok_embed.*")
    optimizer._grads = list(model._core.gradients().values())
    update()
    assert asked == [False, True, False, False, False, True, False, True, False]


def test_a_run_writes_to_its_weights_nowhere_else(monkeypatch):
    """What watches them reads through views that cannot be written through."""
    asked, step = [], Optimizer._step
    monkeypatch.setattr(Optimizer, "_step", lambda *given: asked.append(given[-1]) or step(*given))
    train("adamw", max_steps=4)
    assert asked == [False, True, True, True]


def test_views_for_reading_stay_so():
    core = loopos.Model(CONFIG)._core
    before = core.weight_views()
    view = core.parameters(writable=False)["final_norm.weight"]
    assert core.weight_views() == before
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.setflags(write=True)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    other = core.parameters()["final_norm.weight"]
    other[0] = 7
    assert view[0] == 7
    assert core.weight_views() == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_sizes_that_are_known_change_no_bit(rule, dtype):
    """The last update cannot be proven safe: it is rehearsed, with sizes that the updates before it left."""
    results = []
    for untouched in (False, True):
        model = loopos.Model(CONFIG, seed=1, dtype=dtype)
        optimizer = for_training(rule, model, weight_decay=0.1)
        largest = float(np.finfo(dtype).max)
        for rate in (0.01, 0.0, 0.3, largest / 100, 0.1):
            model._core.accumulate(IDS[None, :8], IDS[None, 1:9], scale=1 / 8)
            norm = model._core.grad_norm()
            refusal = optimizer._optimizer._step(optimizer._grads, rate, 0.5, norm, untouched)
        results.append((refusal, [view.tobytes() for view in model.parameters().values()]))
    assert repr(results[0]) == repr(results[1])
