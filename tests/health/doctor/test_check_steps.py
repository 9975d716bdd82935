"""The doctor and a few updates in a row: loops that are right for one update and wrong for the next."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos import optim
from loopos.data import TokenStream
from loopos.health.doctor import check_steps
from loopos.health.doctor.patient import NotApplicable, steps_by_hand
from loopos.health.doctor.report import FAIL, OK, SKIPPED, WARN


def loop(*, fault="", rule=None):
    """A training loop as people write it, which keeps to the settings; sound without a fault."""

    def trainer(model, data, *, max_steps, learning_rate, optimizer, weight_decay, betas, eps, max_grad_norm, **more):
        if isinstance(data, np.ndarray):
            shape = {"seq_len": model.config.context_length, "batch_size": more["batch_size"], "seed": more["seed"]}
            data = TokenStream(data, **shape, vocab_size=model.config.vocab_size, grad_accum=more["grad_accum"])
        kind = rule or optimizer
        if kind == "sgd":
            made = optim.SGD(model, learning_rate, momentum=0.9 if fault == "momentum" else 0.0)
        else:
            made = {"adam": optim.Adam, "adamw": optim.AdamW}[kind](
                model, learning_rate, betas=betas, eps=eps, weight_decay=weight_decay
            )
        gradients = {name: np.zeros_like(view) for name, view in model.parameters().items()}
        kept, warmup = None, more["warmup_steps"]
        for step in range(max_steps):
            parts = [data.batch(0 if fault == "same batch" else step, micro) for micro in range(more["grad_accum"])]
            if fault != "never zeroed":
                for gradient in gradients.values():
                    gradient[...] = 0
            scored = sum(int((targets != -100).sum()) for _, targets in parts)
            for ids, targets in parts:
                fresh = model.loss_and_grads(ids, targets)[1]
                kept = kept or fresh
                for name, gradient in (kept if fault == "stale" else fresh).items():
                    gradients[name] += gradient * gradient.dtype.type((targets != -100).sum() / scored)
            if max_grad_norm is not None:
                loopos.ops.clip_grad_norm_(gradients, max_grad_norm)
            if not (fault == "stops" and step):
                made.step(gradients, lr=learning_rate * min(1, (step + 1) / warmup) if warmup else learning_rate)

    return trainer


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("trainer", [None, loop(), loop(rule="adamw"), loop(rule="adam"), steps_by_hand])
def test_sound_loops(trainer, optimizer, patient):
    check = check_steps.check_steps(patient(trainer=trainer, optimizer=optimizer))
    assert check.verdict == OK, check


def test_both_families(family, patient, batch):
    assert check_steps.check_steps(patient(loopos.Model(family), [batch(family)])).verdict == OK


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("never zeroed", "gradients are never set to zero"),
        ("same batch", "every update is made of the first batch"),
        ("stale", "every update has the first gradient"),
        ("stops", "the updates after the first change nothing"),
    ],
)
@pytest.mark.parametrize("rule", [None, "adamw"])
def test_loops_that_are_right_for_one_update(fault, said, rule, patient):
    check = check_steps.check_steps(patient(trainer=loop(fault=fault, rule=rule)))
    assert check.verdict == FAIL, check
    assert said in check.advice


def test_another_rule(patient):
    check = check_steps.check_steps(patient(trainer=loop(fault="momentum")))
    assert check.verdict == WARN
    assert "momentum, or an update that is left out" in check.advice

    def signs(model, data, *, max_steps, learning_rate, **_):
        for step in range(max_steps):
            for name, gradient in model.loss_and_grads(*data.batch(step, 0))[1].items():
                model.parameters()[name][...] -= 0.1 * learning_rate * np.sign(gradient)

    assert check_steps.check_steps(patient(trainer=signs)).verdict == SKIPPED


def test_a_model_that_is_trained_by_hand_is_left_aside(patient):
    class Own(loopos.Model):
        def loss_and_grads(self, ids, targets):
            return super().loss_and_grads(ids, targets)

    looked = patient(Own(loopos.ModelConfig(256, 16, 1, 2, 16)))
    with pytest.raises(NotApplicable, match="pass trainer="):
        check_steps.check_steps(looked)


@pytest.mark.parametrize("fault", ["", "never zeroed", "same batch"])
def test_the_whole_doctor_on_a_loop_by_hand(fault, config, text):
    report = loopos.doctor(config(), text, trainer=loop(fault=fault), learning_rate=1e-3, quick=True)
    assert ("several updates" in [check.name for check in report.failures]) == bool(fault)
    assert report["dropout is live"].verdict == SKIPPED
    if not fault:
        assert report.problems == (), report
