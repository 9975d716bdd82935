"""Rules on entries that are finite: absurd losses, scales that jump, gradients of 0, trends."""

from __future__ import annotations

from loopos.health.explain import curves
from loopos.health.explain.logs import Log, Record


def causes(rule, *entries):
    records = [Record(line, f"entry {line}", dict(values)) for line, values in enumerate(entries, 1)]
    return [finding.cause for finding in rule(Log(records=records))]


def test_a_finite_loss_may_be_absurd():
    assert causes(curves.implausible_loss, {"loss": 1e25}) == ["implausible-loss"]
    assert causes(curves.implausible_loss, {"loss": 14.0}) == []


def test_norms_far_apart_in_one_report():
    assert causes(curves.scale_jump, {"||A||": 1.0}, {"||B||": 1e5}) != []
    assert causes(curves.scale_jump, {"||A||": 1.0}, {"||B||": 10.0}) == []


def test_a_gradient_of_zero_reaches_nothing():
    assert causes(curves.zero_gradient, {"loss": 2.0, "grad_norm": 0.0}) == ["zero-gradient"]
    assert causes(curves.zero_gradient, {"loss": 2.0, "grad_norm": 1.0}) == []
    assert causes(curves.zero_gradient, {"loss": 0.0, "valid_tokens": 0.0}) == ["labels-masked"]


def test_a_cross_entropy_is_not_negative():
    assert causes(curves.negative_loss, {"loss": -0.5}) == ["negative-loss"]
    assert causes(curves.negative_loss, {"loss": 0.5}) == []


def test_few_entries_are_no_trend_and_many_are():
    few = [{"step": step, "loss": 3.0 - step / 10} for step in range(1, 5)]
    assert causes(curves.trend_of, *few) == ["insufficient-evidence"]
    many = [{"step": step, "loss": 3.0 - step / 100 + step % 3 / 200} for step in range(1, 120)]
    assert causes(curves.trend_of, *many) == ["learning"]
