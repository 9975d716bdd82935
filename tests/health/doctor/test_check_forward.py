"""The doctor and the forward pass: initialisation, labels, masks, parity, cache and growth, each with its fault."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.health.doctor import check_forward
from loopos.health.doctor.patient import NotApplicable
from loopos.health.doctor.report import FAIL, OK, WARN
from loopos.health.doctor.stream import stream


def scaled(model, times, names="weight"):
    for name, view in model.parameters().items():
        if name.endswith(names):
            view *= times
    return model


# The first loss


def test_a_fresh_model_begins_at_ln_v(patient):
    check = check_forward.initial_loss(patient())
    assert check.verdict == OK
    assert "ln 256 + var/2 = 5.5452" in check.expected


@pytest.mark.parametrize(("std", "allowed"), [(0.0, 1e-12), (1.0, 0.01), (2.0, 0.1)])
def test_the_formula_holds_for_wide_logits_too(std, allowed):
    """ln V + var/2 against the loss over all targets of normal logits, whose largest are fewer than the formula has."""
    logits = np.random.default_rng(0).normal(0, std, (500, 4817))
    loss = float((loopos.ops.logsumexp(logits) - logits.mean(axis=1)).mean())
    assert abs(loss - (np.log(4817) + logits.var(axis=1).mean() / 2)) < allowed


@pytest.mark.parametrize("tied", [True, False])
def test_a_wide_initialisation_is_blamed(config, patient, tied):
    model = scaled(loopos.Model(config(tie_embeddings=tied)), 40, "tok_embed.weight" if tied else "lm_head.weight")
    check = check_forward.initial_loss(patient(model))
    assert check.verdict == FAIL
    assert "the initialisation is too wide" in check.advice


@pytest.fixture(scope="module")
def learned():
    """A model that has learned a cycle of 20 tokens by heart, and that stream."""
    ids = np.tile(np.random.default_rng(0).permutation(20), 30)
    config = loopos.ModelConfig(vocab_size=32, context_length=16, n_layer=1, n_head=2, d_model=32)
    model = loopos.train(config, ids, max_steps=60, batch_size=4, learning_rate=1e-2, progress=False).model
    return model, ids


def test_what_has_learned_is_no_fault_and_wrong_labels_are(learned, patient):
    model, ids = learned
    block = ids[:64].reshape(4, 16)
    right = ids[1:65].reshape(4, 16)
    assert check_forward.initial_loss(patient(model, [(block, right)])).verdict == OK
    check = check_forward.initial_loss(patient(model, [(block, ids[3:67].reshape(4, 16))]))
    assert check.verdict == FAIL
    assert "the labels are wrong, not the model" in check.advice


def test_labels_of_another_vocabulary_are_blamed(config, patient):
    """Narrow logits that give a few ids less than their share, and a batch of only those."""
    model = loopos.Model(config(tie_embeddings=False))
    model.parameters()["final_norm.bias"][:] = 1
    model.parameters()["lm_head.weight"][200:] -= 0.08
    ids = np.random.default_rng(0).integers(0, 200, (4, 17))
    assert check_forward.initial_loss(patient(model, [(ids[:, :-1], ids[:, 1:])])).verdict == OK
    ids = 200 + ids % 56
    check = check_forward.initial_loss(patient(model, [(ids[:, :-1], ids[:, 1:])]))
    assert check.verdict == FAIL
    assert "the labels are to blame" in check.advice


# Who sees whom


def causality(patient):
    return {check.name: check for check in check_forward.causality(patient)}


def test_a_causal_model_passes(patient):
    assert {check.verdict for check in causality(patient()).values()} == {OK}


class Leaky(loopos.Model):
    """Every position sees a little of the next one's logits, as under a mask that is one too wide."""

    def forward(self, ids):
        logits = super().forward(ids)
        logits[:, :-1] += np.float32(1e-3) * logits[:, 1:]
        return logits


class Mixed(loopos.Model):
    """Rows see each other."""

    def forward(self, ids):
        logits = super().forward(ids)
        return logits + np.float32(1e-3) * logits.mean(axis=0, keepdims=True)


@pytest.mark.parametrize(("kind", "name"), [(Leaky, "causality"), (Mixed, "row independence")])
def test_a_leak_is_seen(kind, name, config, patient):
    found = causality(patient(kind(config())))
    assert [check.name for check in found.values() if check.verdict == FAIL] == [name]


def test_dead_attention_is_seen(config, patient):
    model = scaled(loopos.Model(config()), 0, "o_proj.weight")
    check = causality(patient(model))["context"]
    assert check.verdict == FAIL
    assert "attention carries nothing" in check.advice


def test_an_unused_input_is_seen(config, patient):
    model = scaled(loopos.Model(config(tie_embeddings=False)), 0, "tok_embed.weight")
    assert "the input is not used" in causality(patient(model))["context"].advice


# Two ways to one result


class Other(loopos.Model):
    """Its loss counts every position, masked ones too."""

    def loss_and_grads(self, ids, targets):
        loss, grads = super().loss_and_grads(ids, targets)
        share = np.count_nonzero(targets != -100) / targets.size
        return loss * share, {name: grad * grad.dtype.type(share) for name, grad in grads.items()}


def test_training_and_evaluation_are_one(config, patient, batch):
    pair = batch(config())
    assert check_forward.one_loss(patient(pairs=[pair])).verdict == OK
    assert check_forward.one_loss(patient(Other(config()), [pair])).verdict == FAIL


@pytest.mark.parametrize("context", [1, 16])
def test_what_is_ignored_changes_nothing(context, config, patient):
    assert check_forward.padding(patient(loopos.Model(config(context_length=context)))).verdict == OK
    assert check_forward.padding(patient(Other(config(context_length=context)))).verdict == FAIL


class Forgetful(loopos.Model):
    """Generates as if the prompt were not there."""

    def generate(self, ids, max_new_tokens, **options):
        last = super().generate(ids[:, -1:], max_new_tokens, **options)
        return np.concatenate([ids, last[:, 1:]], axis=1)


def test_generation_is_the_model(config, patient):
    assert check_forward.cache(patient()).verdict == OK
    assert check_forward.cache(patient(Forgetful(config()))).verdict == FAIL


def test_logits_that_the_parameters_do_not_explain(config, patient, monkeypatch):
    looked = patient()
    monkeypatch.setattr(check_forward, "stream", lambda *args: (stream(*args)[0], stream(*args)[1] * 1.01))
    assert next(iter(check_forward.growth(looked))).verdict == FAIL


# Growth


class Gated:
    """Thirty-two blocks whose output is multiplied by ``gate``: a model that shows its activations."""

    def __init__(self, gate):
        self.gate = gate

    def parameters(self):
        return {"w": np.ones(1)}

    def activations(self, ids):
        x = np.random.default_rng(0).normal(size=(*ids.shape, 8))
        return [x * self.gate**layer for layer in range(33)]


@pytest.mark.parametrize(("gate", "verdict"), [(0.75, FAIL), (1.0, OK), (0.9, OK), (1.75, FAIL), (1.26, WARN)])
def test_a_gate_that_is_not_the_identity_at_the_start(gate, verdict, patient):
    (check,) = check_forward.growth(patient(Gated(gate)))
    assert check.verdict == verdict
    assert f"{gate:.3f} a block" in check.measured
    if gate == 0.75:
        assert "it must be 1 at the start" in check.advice


def test_growth_of_a_real_model(config, patient):
    ways, forward = check_forward.growth(patient(loopos.Model(config(n_layer=8))))
    assert (ways.verdict, forward.verdict) == (OK, OK)
    wide = scaled(loopos.Model(config(n_layer=8)), 1e6, ("o_proj.weight", "down_proj.weight"))
    assert list(check_forward.growth(patient(wide)))[1].verdict == FAIL


def test_shrinking_that_is_not_yet_death():
    assert check_forward.judge_growth("g", [1, 0.7, 0.5, 0.35]).verdict == WARN
    assert check_forward.judge_growth("g", [1, 0.7]).verdict == OK  # two blocks make no rate
    assert check_forward.judge_growth("g", [1, 0, 0]).verdict == FAIL
    assert check_forward.judge_growth("g", [0, 0]).verdict == FAIL
    assert check_forward.judge_growth("g", [1, float("nan")]).verdict == FAIL
    with pytest.raises(NotApplicable):
        check_forward.judge_growth("g", [1])


# Guards


def test_rows_that_a_guard_decides_are_counted_and_named(patient, config):
    assert check_forward.guards(patient()).verdict == OK
    model = scaled(loopos.Model(config()), 0.0, "embed.weight")
    check = check_forward.guards(patient(model))
    assert check.verdict == WARN
    assert check.measured.startswith("eps floor active: layer_norm_eps decided ")
    assert "look at why they are constant" in check.advice
