"""The verdict on simulated runs of known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopos.monitor.ladder import Ladder
from loopos.monitor.verdict import (
    ALPHA,
    DIVERGING,
    FLAT,
    INSUFFICIENT,
    LEARNING,
    NO_FALL,
    NOT_EVALUATED,
    OVERFITTING,
    of_history,
    trend,
    verdict,
)

pytestmark = pytest.mark.unsanitized("arithmetic of losses: Python alone")


def noise(rng, count, size, correlation=0.0):
    values = np.zeros(count)
    for i in range(count):
        values[i] = correlation * values[i - 1] + rng.normal(0, size)
    return values


def descent(count):
    return 1.5 + 2.5 * np.exp(-np.arange(count) / (count / 4))


def share(kind, make, runs=100):
    return sum(verdict(make(np.random.default_rng(seed))).kind == kind for seed in range(runs)) / runs


@pytest.mark.parametrize("count", [12, 60, 400])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_a_noisy_descent_is_learning(count, correlation):
    assert share(LEARNING, lambda rng: descent(count) + noise(rng, count, 0.08, correlation)) >= 0.99


@pytest.mark.parametrize(("count", "correlation", "least"), [(30, 0.0, 0.8), (400, 0.0, 0.9), (400, 0.5, 0.8)])
def test_noise_without_a_trend_is_flat(count, correlation, least):
    """What is not called flat is called insufficient: a p below 0.05 comes by chance in one of twenty."""

    def make(rng):
        return 3 + noise(rng, count, 0.05, correlation)

    assert share(FLAT, make) >= least
    assert share(LEARNING, make) <= 0.01


FALL = [4.08, 4.05, 3.62, 3.75, 3.8, 3.78, 3.69, 3.73, 3.62, 3.62, 3.58, 3.46, 3.47, 3.56, 3.48, 3.62, 3.62, 3.66, 3.51]


def test_a_fall_that_is_not_beyond_doubt_is_neither_flat_nor_learning():
    for losses in (FALL, [*FALL, 3.62]):  # 19 and 20 of them; p = 0.0015
        found = verdict(losses)
        assert found.kind == INSUFFICIENT
        assert NO_FALL > found.trend.p_falling > ALPHA
        assert "a fall may be there (p = 0.00" in found.says


@pytest.mark.parametrize("count", [20, 30, 60])
@pytest.mark.parametrize(
    "shape",
    [
        lambda t: -0.3 * t,
        lambda t: -0.2 * t,  # two and a half times the noise
        lambda t: 0.5 * np.exp(-4 * t),
        lambda t: 0.5 * np.exp(-10 * t),
        lambda t: np.exp(-20 * t),  # over after the first entries
        lambda t: 0.7 * (1 + 10 * t) ** -0.5,
        lambda t: -0.5 * t**4,
        lambda t: np.where(t < 0.25, 0.4, 0.0),
        lambda t: np.where(t < 0.75, 0.4, 0.0),
    ],
)
def test_a_series_that_falls_is_hardly_ever_called_flat(shape, count):
    def make(rng):
        return 3.5 + shape(np.linspace(0, 1, count)) + noise(rng, count, 0.08)

    assert share(FLAT, make) <= 0.02


def test_what_the_noise_may_hide_is_not_called_flat():
    losses = 3 + noise(np.random.default_rng(3), 20, 0.05, 0.9)
    assert verdict(losses).kind == INSUFFICIENT
    early = [3.8, 3.7, *(3.5 + 0.05 * (-1) ** i for i in range(38))]
    found = verdict(early)
    assert (found.kind, found.trend.p_falling > NO_FALL) == (INSUFFICIENT, True)
    assert "fell at the start" in found.says


def test_a_fall_that_was_over_early_is_learning_that_has_stopped():
    early = [5.0, 4.2, *(3.3 + 0.05 * (-1) ** i for i in range(38))]
    found = verdict(early, rungs=Ladder(4.2, 3.3, 2.4))
    assert (found.kind, found.rung) == (LEARNING, "unigram")
    assert "it no longer does" in found.says
    assert share(LEARNING, lambda rng: 3 + noise(rng, 20, 0.05), runs=300) <= 0.01


def test_autocorrelated_noise_would_be_taken_for_a_trend_without_the_correction(monkeypatch):
    def make(rng):
        return 3 + noise(rng, 120, 0.05, 0.9)

    corrected = share(LEARNING, make, runs=200)
    monkeypatch.setattr("loopos.monitor.verdict._correction", lambda values: 1.0)
    assert share(LEARNING, make, runs=200) > 2 * corrected


def test_a_rise_after_a_descent_is_diverging():
    def make(rng):
        values = descent(100) + noise(rng, 100, 0.05)
        values[70:] += np.linspace(0, 3, 30)
        return values

    assert share(DIVERGING, make) >= 0.99


@pytest.mark.parametrize(
    "losses", [[], [2.2549, 2.1651], [3, 2, 1, 0.9, 0.8, 0.7, 0.6], [3, 2.9, 3.1, 3, 2.8, 3.05, 3, 2.95, 3.01]]
)
def test_little_is_insufficient(losses):
    found = verdict(losses)
    assert found.kind == INSUFFICIENT
    assert str(len(losses)) in found.says


def test_warm_up_is_left_out():
    rates = [min(1.0, (t + 1) / 20) for t in range(26)]
    losses = [4 - t / 10 if t < 20 else 2.0 + t % 2 / 100 for t in range(26)]
    assert verdict(losses).kind == LEARNING
    found = verdict(losses, rates)
    assert (found.kind, found.warmup, found.used) == (INSUFFICIENT, 19, 7)
    constant = verdict(losses, [1e-3] * 26)
    assert (constant.kind, constant.warmup) == (LEARNING, 0)


def test_numbers_that_are_not_finite_are_counted_and_never_used():
    losses = list(descent(40))
    losses[5] = losses[17] = None
    losses[30] = math.inf
    found = verdict(losses)
    assert (found.kind, found.used, found.nonfinite) == (LEARNING, 37, 3)
    assert verdict([*descent(40), math.nan, math.nan, math.nan]).kind == DIVERGING


def test_a_constant_loss_is_flat_on_its_rung():
    rungs = Ladder(math.log(65), 3.3, 2.4)
    for level, rung in [
        (math.log(65), "uniform"),
        (3.3, "unigram"),
        (2.41, "bigram"),
        (1.5, "below bigram"),
        (9, "above uniform"),
    ]:
        found = verdict([level] * 10, rungs=rungs)
        assert (found.kind, found.rung) == (FLAT, rung)
    assert "attention" in verdict([2.4] * 30, rungs=rungs).says


def test_learning_that_has_stopped_names_its_rung():
    rng = np.random.default_rng(0)
    losses = np.concatenate([np.linspace(4.1, 3.3, 20), np.full(80, 3.3)]) + noise(rng, 100, 0.005)
    found = verdict(losses, rungs=Ladder(math.log(65), 3.3, 2.4))
    assert (found.kind, found.rung) == (LEARNING, "unigram")
    assert "no longer" in found.says


def test_the_trend_is_mann_kendall_with_the_slope_of_theil_and_sen():
    values = [5.0, 4.0, 4.5, 3.0, 3.5, 2.0, 2.5, 1.0, 1.5, 0.0]  # 41 of 45 pairs fall, 4 rise; variance 125
    found = trend(values)
    assert found.p_falling == pytest.approx(0.5 * math.erfc(36 / math.sqrt(125) / math.sqrt(2)), rel=1e-12)
    slopes = [(b - a) / (j - i) for i, a in enumerate(values) for j, b in enumerate(values) if j > i]
    assert found.change == pytest.approx(9 * np.median(slopes))
    limit = sorted(slopes)[int((45 - 2.054 * math.sqrt(125)) / 2)]  # Sen 1968: one-sided 98 %
    assert found.lowest == pytest.approx(9 * limit)
    tied = trend([2.0, 2.0, 1.0, 1.0, 0.0])  # 8 of 10 pairs fall, 2 tie; variance (300 - 18 - 18) / 18
    assert tied.p_falling == pytest.approx(0.5 * math.erfc(7 / math.sqrt(264 / 18) / math.sqrt(2)), rel=1e-12)
    assert trend(values[::-1]).p_rising == pytest.approx(found.p_falling)


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match="learning_rates"):
        verdict([1.0], [1.0, 2.0])


def history(losses, evals, every=10):
    entries = [{"step": i + 1, "loss": loss, "learning_rate": 1e-3} for i, loss in enumerate(losses)]
    for i, loss in enumerate(evals):
        entries[(i + 1) * every - 1]["eval_loss"] = loss
    return entries


def test_the_verdict_speaks_of_a_held_out_loss_that_rises():
    found = of_history(history(descent(60), [2.8, 2.5, 2.6, 2.9, 3.3, 3.9]))
    assert found.kind == OVERFITTING
    assert found.says.startswith("the held-out loss rises since step 20, from 2.5, its best, to 3.9 at step 60")
    assert "by heart" in found.says
    assert "the loss falls, p = " in found.says


def test_the_verdict_speaks_of_a_held_out_loss_that_is_no_number():
    for evals in ([None] * 6, [math.nan] * 6, [0.0] * 6):
        assert of_history(history(descent(60), evals)).kind == NOT_EVALUATED
    assert "masked" in of_history(history(descent(60), [None])).says


def test_learning_is_said_with_what_the_held_out_loss_does():
    found = of_history(history(descent(60), [2.9, 2.4, 2.1, 1.9, 1.8, 1.75]))
    assert found.kind == LEARNING
    assert "the held-out loss falls, from 2.9 to 1.75" in found.says
    alone = of_history(history(descent(60), []))
    assert (alone.kind, alone.says.endswith("no held-out loss was logged")) == (LEARNING, True)
    once = of_history(history(descent(60), [1.9], every=60))
    assert (once.kind, "the held-out loss is 1.9 at step 60" in once.says) == (LEARNING, True)


def test_one_bad_evaluation_is_told_and_not_called_overfitting():
    found = of_history(history(descent(60), [2.9, 1.9, 2.4], every=20))
    assert (found.kind, "the held-out loss rises" in found.says) == (LEARNING, True)
    both = [2.0, *np.linspace(2, 6, 59)]
    assert of_history(history(both, [2, 3, 4, 5, 5.5, 6])).kind == DIVERGING


def test_a_restart_of_the_schedule_is_no_divergence():
    cycle = [*(1e-3 * (1 + math.cos(math.pi * i / 40)) / 2 for i in range(40)), *(1e-3 * i / 20 for i in range(20))]
    rates = [*cycle, *cycle[:30]]
    rng = np.random.default_rng(0)
    losses = [3 * math.exp(-i / 60) + 1000 * rate + rng.normal(0, 0.01) for i, rate in enumerate(rates)]
    assert any(verdict(losses[:count]).kind == DIVERGING for count in range(20, 91))  # nothing tells it from one
    for count in range(20, 91):
        assert verdict(losses[:count], rates[:count]).kind != DIVERGING
    assert verdict(losses, rates).warmup == 0
