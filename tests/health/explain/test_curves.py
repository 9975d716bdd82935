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


def test_a_cross_entropy_is_not_negative():
    assert causes(curves.negative_loss, {"loss": -0.5}) == ["negative-loss"]
    assert causes(curves.negative_loss, {"loss": 0.5}) == []


def test_few_entries_are_no_trend_and_many_are():
    few = [{"step": step, "loss": 3.0 - step / 10} for step in range(1, 5)]
    assert causes(curves.trend_of, *few) == ["insufficient-evidence"]
    many = [{"step": step, "loss": 3.0 - step / 100 + step % 3 / 200} for step in range(1, 120)]
    assert causes(curves.trend_of, *many) == ["learning"]


def at_rate(rates, text="'learning_rate': 0.0", loss=lambda i: 8 + 0.3 * (-1) ** i):
    records = [Record(i + 1, text, {"loss": loss(i), "learning_rate": rate}) for i, rate in enumerate(rates)]
    return [(found.cause, found.confidence) for found in curves.zero_rate(Log(records=records))]


def test_a_rate_of_zero_is_certain_where_it_is_printed():
    assert at_rate([0.0] * 23) == [("learning-rate-zero", "certain")]
    assert at_rate([0.0] * 3) == [("learning-rate-zero", "certain")]
    assert at_rate([1e-3] * 12 + [0.0] * 8) == [("learning-rate-zero", "certain")]  # the schedule ended before the run
    assert at_rate([0.0] * 9, "loss 8 lr: 0.0000") == [("learning-rate-zero", "likely")]  # perhaps 3e-5


def test_a_rate_that_ends_at_zero_or_is_rounded_to_it_is_usual():
    assert at_rate([1e-3, 1e-4, 0.0]) == []
    assert at_rate([0.0, 1e-4, 1e-3]) == []
    assert at_rate([1e-3] * 50 + [0.0] * 4) == []
    assert at_rate([1e-3] * 12 + [0.0] * 8, "lr 0.0000") == []
    assert at_rate([0.0] * 20, "lr 0.0000", loss=lambda i: 4 - i / 10) == []
