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

        def new():
            if kind == "sgd":
                return optim.SGD(model, learning_rate, momentum=0.9 if fault == "momentum" else 0.0)
            rules = {"adam": optim.Adam, "adamw": optim.AdamW}
            return rules[kind](model, learning_rate, betas=betas, eps=eps, weight_decay=weight_decay)

        made = new()
        gradients = {name: np.zeros_like(view) for name, view in model.parameters().items()}
        kept, last, warmup = None, None, more["warmup_steps"]
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
            if fault == "clipped one by one" and max_grad_norm is not None:
                for gradient in gradients.values():
                    loopos.ops.clip_grad_norm_([gradient], max_grad_norm)
            elif max_grad_norm is not None:
                loopos.ops.clip_grad_norm_(gradients, max_grad_norm)
            rate = learning_rate * min(1, (step + 1) / warmup) if warmup else learning_rate
            given = gradients
            if fault in ("one behind", "step first"):
                fresh = {name: gradient.copy() for name, gradient in gradients.items()}
                first = fresh if fault == "one behind" else {name: np.zeros_like(g) for name, g in fresh.items()}
                given, last = last or first, fresh
            if fault == "uphill":
                given = {name: -gradient for name, gradient in gradients.items()}
            if fault == "moments forgotten":
                made = new()
            if not (fault == "stops" and step):
                made.step(given, lr=10 * rate if fault == "ten times" else rate)

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
        ("one behind", "every update has the gradient of the batch before"),
        ("step first", "does the optimizer's step come before the backward pass?"),
        ("ten times", "the rate is not learning_rate"),
        ("uphill", "it goes up the gradient"),
    ],
)
@pytest.mark.parametrize("rule", [None, "adamw"])
def test_loops_that_are_right_for_one_update(fault, said, rule, patient):
    check = check_steps.check_steps(patient(trainer=loop(fault=fault, rule=rule)))
    assert check.verdict == FAIL, check
    assert said in check.advice


@pytest.mark.parametrize("rule", [None, "adam", "adamw"])
def test_moments_that_are_forgotten_between_updates(rule, patient):
    """With sgd there are none to forget."""
    check = check_steps.check_steps(patient(trainer=loop(fault="moments forgotten", rule=rule), optimizer="adamw"))
    assert check.verdict == WARN, check
    assert "are its moments kept between updates?" in check.advice


def test_tensors_that_are_clipped_one_by_one(patient):
    check = check_steps.check_steps(patient(trainer=loop(fault="clipped one by one")))
    assert check.verdict == WARN, check
    assert "one factor scales them all" in check.advice


@pytest.mark.parametrize(("fault", "times"), [("ten times", "is 10 times"), ("uphill", "is -1 times")])
def test_how_much_too_long_a_first_update_is(fault, times, patient):
    assert times in check_steps.check_steps(patient(trainer=loop(fault=fault))).measured


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
