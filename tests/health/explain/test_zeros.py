"""Losses and gradient norms of exactly 0: what they stand for, and how sure that is."""

from __future__ import annotations

import math

from loopos.health.explain import zeros
from loopos.health.explain.logs import Log, Record


def log(*entries):
    return Log(records=[Record(line, f"entry {line}", dict(values)) for line, values in enumerate(entries, 1)])


def found(rule, *entries):
    return [(each.cause, each.confidence) for each in rule(log(*entries))]


def causes(rule, *entries):
    return [cause for cause, _ in found(rule, *entries)]


FALL = [{"epoch": i / 10, "loss": 1.9 - 0.05 * i} for i in range(12)]
ZERO = [{"epoch": i / 10, "loss": 0.0} for i in range(12, 20)]


def test_zero_beside_a_norm_that_is_not_finite_is_no_loss():
    assert causes(zeros.filtered_loss, *FALL, {"loss": 0.0, "grad_norm": math.nan})[0] == "loss-filtered"
    assert causes(zeros.filtered_loss, {"loss": 0.0, "grad_norm": 0.5}) == []


def test_a_loss_that_is_zero_for_good_was_a_nan_or_nothing_is_scored():
    assert found(zeros.lost_to_zero, *FALL, *ZERO) == [("loss-filtered", "likely"), ("labels-masked", "possible")]
    (first, _) = zeros.lost_to_zero(log(*FALL, *ZERO))
    assert "exactly 0 from line 13 on, and was 1.35 before" in first.says


def test_a_held_out_loss_of_nan_proves_it():
    told = found(zeros.lost_to_zero, *FALL, *ZERO, {"eval_loss": math.nan, "epoch": 2.0})
    assert told == [("weight-not-finite", "certain"), ("loss-filtered", "certain")]
    before = found(zeros.lost_to_zero, {"eval_loss": math.nan}, *FALL, *ZERO)  # bad already: it proves nothing
    assert before == [("loss-filtered", "likely"), ("labels-masked", "possible")]
    infinite = found(zeros.lost_to_zero, *FALL, *ZERO, {"eval_loss": math.inf})
    assert infinite[0] == ("loss-filtered", "likely")


def test_a_gradient_beside_a_loss_of_zero_contradicts_it():
    zero = [entry | {"grad_norm": 1.0} for entry in ZERO]
    (only,) = zeros.lost_to_zero(log(*({"epoch": 0.1, "loss": 1.4, "grad_norm": 0.7} for _ in range(5)), *zero))
    assert (only.cause, only.confidence) == ("loss-filtered", "likely")
    assert "A gradient norm of 1 beside it contradicts it" in only.says


def test_zeros_between_other_losses_are_told_and_no_more():
    assert found(zeros.lost_to_zero, *FALL, *ZERO[:2], *FALL) == [("labels-masked", "possible")]
    assert found(zeros.lost_to_zero, *FALL) == []


def test_a_gradient_of_zero_reaches_nothing():
    assert causes(zeros.zero_gradient, {"loss": 2.0, "grad_norm": 0.0}) == ["zero-gradient"]
    assert causes(zeros.zero_gradient, {"loss": 2.0, "grad_norm": 1.0}) == []
    assert causes(zeros.zero_gradient, {"loss": 0.0, "valid_tokens": 0.0}) == ["labels-masked"]


def test_a_loss_that_comes_down_to_zero_by_its_own_steps_may_be_zero():
    hinge = [{"step": i, "loss": max(0.0, 1 - 0.05 * i + 0.02 * (-1) ** i)} for i in range(40)]
    assert causes(zeros.lost_to_zero, *hinge) == []
    noisy = [{"step": i, "loss": 1.2 + 0.5 * (-1) ** i} for i in range(20)]  # steps as large, and no fall
    assert causes(zeros.lost_to_zero, *noisy, {"step": 20, "loss": 0.0})[0] == "loss-filtered"
