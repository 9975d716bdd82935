"""The doctor and the backward pass: a gradient taken away is missed, a wrong one measured, a dead part told apart."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.health.doctor import check_gradient
from loopos.health.doctor.patient import NotApplicable
from loopos.health.doctor.report import FAIL, OK, WARN


def broken(change):
    """A Model whose gradients go through ``change(grads)``, on copies."""

    class Broken(loopos.Model):
        def loss_and_grads(self, ids, targets, **options):
            loss, grads = super().loss_and_grads(ids, targets, **options)
            change(grads)
            return loss, grads

    return Broken


def zero(name, rows=slice(None)):
    return lambda grads: grads[name].__setitem__(rows, 0)


def test_gradients_reach_everything(family, patient, batch):
    for rows in (1, 3):
        check = check_gradient.reach(patient(loopos.Model(family), [batch(family, rows=rows)]))
        assert check.verdict == OK, check


NAMES = [
    "tok_embed.weight",
    "pos_embed.weight",
    "blocks.0.attn_norm.weight",
    "blocks.0.attn.qkv_proj.weight",
    "blocks.1.attn.o_proj.bias",
    "blocks.1.mlp.up_proj.weight",
    "final_norm.bias",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_backward_is_named(name, config, patient):
    check = check_gradient.reach(patient(broken(zero(name))(config())))
    assert check.verdict == FAIL
    assert name in check.advice
    assert "the backward is missing there" in check.advice


@pytest.mark.parametrize(("part", "rows"), [("q", slice(0, 32)), ("k", slice(32, 64)), ("v", slice(64, 96))])
def test_a_part_of_the_attention_backward(part, rows, config, patient):
    """The case of a trainer that was declared complete while nothing went back through its attention."""
    check = check_gradient.reach(patient(broken(zero("blocks.1.attn.qkv_proj.weight", rows))(config())))
    assert check.verdict == FAIL
    assert f"blocks.1.attn.qkv_proj.weight ({part})" in check.advice


def test_the_gate_and_the_up_projection_are_two_parts(config, patient):
    name = "blocks.0.mlp.gate_up_proj.weight"
    model = broken(zero(name, slice(0, 48)))(config(activation="swiglu", d_ff=48))
    assert f"{name} (gate)" in check_gradient.reach(patient(model)).advice


def test_rows_of_tokens_and_positions(config, patient):
    def change(grads):
        grads["pos_embed.weight"][3] = 0

    check = check_gradient.reach(patient(broken(change)(config())))
    assert check.verdict == FAIL
    assert "pos_embed.weight" in check.measured


def test_what_is_structurally_zero_is_no_fault(config, patient):
    """Unused tokens of an untied table, positions beyond the batch, the bias of keys, tokens after the last target."""
    model = loopos.Model(config(tie_embeddings=False), dtype="float64")
    ids = np.arange(10).reshape(2, 5)
    targets = ids + 1
    targets[:, 3:] = -100
    _, grads = model.loss_and_grads(ids, targets)
    assert not grads["tok_embed.weight"][100].any()
    assert not grads["tok_embed.weight"][4].any()
    assert check_gradient.reach(patient(model, [(ids, targets)])).verdict == OK
    change = broken(zero("blocks.0.attn.qkv_proj.bias", slice(32, 64)))
    assert check_gradient.reach(patient(change(config()))).verdict == OK
    one = ids[:, :1], targets[:, :1]  # a softmax over one key
    assert check_gradient.reach(patient(loopos.Model(config()), [one])).verdict == OK


def test_what_starts_behind_a_zero_is_reached_after_a_step(config, patient):
    model = loopos.Model(config(bias=False))
    model.parameters()["blocks.0.attn.o_proj.weight"][...] = 0
    check = check_gradient.reach(patient(model))
    assert check.verdict == WARN
    assert "blocks.0.attn.qkv_proj.weight (q)" in check.measured
    assert "starts at zero" in check.advice


def test_what_is_dead_for_good_is_told_apart(config, patient):
    """All units of a relu off: no gradient now, none later, and the loss does not move either."""
    model = loopos.Model(config(activation="relu"))
    model.parameters()["blocks.1.mlp.up_proj.bias"][...] = -1e3
    check = check_gradient.reach(patient(model))
    assert check.verdict == FAIL
    assert "nothing depends on" in check.advice
    assert "blocks.1.mlp.up_proj.weight" in check.advice


def test_names_and_numbers_of_gradients(config, patient):
    check = check_gradient.reach(patient(broken(lambda grads: grads.pop("final_norm.bias"))(config())))
    assert check.verdict == FAIL
    assert "final_norm.bias" in check.measured
    infinite = broken(lambda grads: grads["final_norm.bias"].__setitem__(2, np.inf))
    assert "not finite: final_norm.bias" in check_gradient.reach(patient(infinite(config()))).measured


SIZES = [{"vocab_size": 1}, {"d_model": 1, "n_head": 1}]


@pytest.mark.parametrize("family", [{}, {"bias": False, "tie_embeddings": False}, {"norm": "rmsnorm"}])
@pytest.mark.parametrize("size", SIZES)
def test_gradients_that_are_zero_by_design_are_known(size, family, config, patient):
    model = loopos.Model(config(**(size | family)))
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (4, 17))
    check = check_gradient.reach(patient(model, [(ids[:, :-1], ids[:, 1:])]))
    assert check.verdict != FAIL, str(check)


@pytest.mark.parametrize("size", SIZES)
def test_the_doctor_finds_no_fault_in_a_model_of_these_sizes(size, config):
    model = loopos.Model(config(**size))
    report = loopos.doctor(model, np.random.default_rng(0).integers(0, model.config.vocab_size, 2000))
    assert [str(check) for check in report.checks if check.verdict == FAIL] == []


def test_a_missing_backward_is_seen_at_these_sizes_too(config, patient):
    model = broken(zero("final_norm.bias"))(config(d_model=1, n_head=1))
    ids = np.random.default_rng(0).integers(0, 256, (4, 17))
    assert check_gradient.reach(patient(model, [(ids[:, :-1], ids[:, 1:])])).verdict == FAIL


def test_looking_changes_no_weight(config, patient):
    model = broken(zero("final_norm.bias"))(config(activation="relu"))
    model.parameters()["blocks.1.mlp.up_proj.bias"][...] = -1e3
    before = {name: view.tobytes() for name, view in model.parameters().items()}
    check_gradient.reach(patient(model))
    assert {name: view.tobytes() for name, view in model.parameters().items()} == before


# Right, and of a size


def test_the_whole_model_is_checked(family, patient):
    for dtype in ("float32", "float64"):
        assert check_gradient.whole_model(patient(loopos.Model(family, dtype=dtype))).verdict == OK


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_a_thousandth_wrong_is_named(name, config, patient):
    def change(grads):
        grads[name] *= 1.001

    check = check_gradient.whole_model(patient(broken(change)(config())))
    assert check.verdict == FAIL
    assert name in check.advice


class Wrapped:
    """A model around a model, of which no sibling can be built."""

    def __init__(self, model, times):
        self.model, self.times = model, times

    def __getattr__(self, name):
        return getattr(self.model, name)

    def loss_and_grads(self, ids, targets):
        loss, grads = self.model.loss_and_grads(ids, targets)
        return loss, {name: grad * self.times for name, grad in grads.items()}


def test_a_wrapped_model_is_checked_itself(config, patient):
    model = loopos.Model(config(), dtype="float64")
    before = {name: view.tobytes() for name, view in model.parameters().items()}
    assert check_gradient.whole_model(patient(Wrapped(model, 1.0))).verdict == OK
    assert check_gradient.whole_model(patient(Wrapped(model, 1.001))).verdict == FAIL
    assert {name: view.tobytes() for name, view in model.parameters().items()} == before
    with pytest.raises(NotApplicable, match="no small sibling"):
        check_gradient.whole_model(patient(Wrapped(loopos.Model(config()), 1.0)))


def test_a_method_replaced_on_one_model_is_seen(config, patient):
    model = loopos.Model(config())
    assert patient(model).plain
    sound = model.loss_and_grads

    def broken_here(ids, targets):
        loss, grads = sound(ids, targets)
        return loss, grads | {"final_norm.bias": np.zeros(32, np.float32)}

    model.loss_and_grads = broken_here
    assert not patient(model).plain
    assert "final_norm.bias" in check_gradient.reach(patient(model)).advice


def test_gradients_that_die_on_the_way_back(config, patient):
    model = loopos.Model(config(n_layer=6))
    assert check_gradient.backward_growth(patient(model)).verdict == OK

    def change(grads):
        for name in grads:
            if name.startswith("blocks."):
                grads[name] *= np.float32(0.2 ** (6 - int(name.split(".")[1])))

    check = check_gradient.backward_growth(patient(broken(change)(config(n_layer=6))))
    assert check.verdict == FAIL
    assert "the signal dies away" in check.advice


def test_matrices_that_wait_for_their_other_half_are_no_fault(family, patient, batch, monkeypatch):
    """A's gradient is 0 as long as B is, which is where LoRA begins: nothing has to be moved to know it."""
    model = loopos.Model(family)
    model.add_adapter(loopos.LoRA(2))
    halves = len(model.adapter_parts)
    with monkeypatch.context() as m:
        m.setattr(check_gradient, "_loss_moves", None)
        check = check_gradient.reach(patient(model, [batch(family)]))
    assert check.verdict == OK, check
    assert f"{halves} of {2 * halves} parts have a gradient, {halves} matrices A of an adapter will" in check.measured
    for view in model.adapter_parameters().values():
        view[...] = 0  # where A is 0 too, B has no gradient either, now and later
    assert check_gradient.reach(patient(model, [batch(family)])).verdict == FAIL
