"""The verdict on simulated runs of known truth, and the ladder against entropies computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopos.monitor.verdict import (
    ALPHA,
    DIVERGING,
    FLAT,
    INSUFFICIENT,
    LEARNING,
    NO_FALL,
    Ladder,
    ladder,
    trend,
    verdict,
)


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
    early = [4.5, 4.2, *(3.5 + 0.05 * (-1) ** i for i in range(38))]
    found = verdict(early)
    assert (found.kind, found.trend.p_falling > NO_FALL) == (INSUFFICIENT, True)
    assert "fell at the start" in found.says


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


@pytest.mark.parametrize(
    ("rungs", "loss", "silent"),
    [
        (Ladder(4.16, 4.15, 4.14), 4.15, ("dead", "nothing has been learned (", "gradients reach")),  # uniform tokens
        (Ladder(4.16, 3.3, 3.29), 3.3, ("dead", "gradients reach")),  # independent tokens, learned well
        (Ladder(4.16, 4.12, 3.0), 4.14, ("nothing has been learned (", "gradients reach")),
        (Ladder(4.16, 4.12, 4.0), 4.07, ("gradients reach",)),  # near two that are no longer near each other
    ],
)
def test_rungs_that_coincide_tell_of_no_death(rungs, loss, silent):
    found = verdict([loss] * 30, rungs=rungs)
    assert found.kind == FLAT
    assert "too close to tell apart" in found.says
    assert not [word for word in silent if word in found.says]


def test_a_ladder_of_few_data_claims_nothing_for_certain():
    assert "if there is more to learn" in Ladder(4.16, 3.3, 0.4, False).rung(3.3)[1]
    assert "If what is before it tells more" in Ladder(4.16, 3.3, 2.4).rung(2.4)[1]


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


def test_the_ladder_is_the_entropies_of_the_stream():
    table = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.25, 0.25, 0.5]])
    ids = [0]
    for drawn in np.random.default_rng(1).random(40_000):
        ids.append(int(np.searchsorted(np.cumsum(table[ids[-1]])[:-1], drawn)))
    found = ladder(np.array(ids), 7)
    values, vectors = np.linalg.eig(table.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    assert found.uniform == pytest.approx(math.log(7))
    assert found.unigram == pytest.approx(-(stationary * np.log(stationary)).sum(), abs=0.02)
    assert found.bigram == pytest.approx(-(stationary[:, None] * table * np.log(table)).sum(), abs=0.02)
    assert ladder(np.arange(100) % 5, 5).bigram == pytest.approx(0, abs=1e-12)


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match="learning_rates"):
        verdict([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least 2"):
        ladder(np.array([1]), 5)
    with pytest.raises(IndexError, match=r"0\.\.4"):
        ladder(np.array([1, 5]), 5)
    with pytest.raises(ValueError, match="vocab_size"):
        ladder(np.array([1, 2]), 0)
