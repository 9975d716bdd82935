"""Intervals: against published values, and how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopos.scoring.intervals import (
    Z,
    bootstrap_ratio,
    paired_means,
    paired_proportions,
    student_quantile,
    wilson,
)


def test_wilson_is_the_root_of_its_equation():
    for right, count in ((1, 10), (7, 10), (81, 263), (999, 1000)):
        for end in wilson(right, count):  # |p^ - p| = z sqrt(p (1 - p) / n) at both ends
            assert abs(right / count - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / count), rel=1e-9)


def test_wilson_as_published():
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I, method 3
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_the_ends_of_wilson_are_exact_and_nothing_is_known_of_nothing():
    assert wilson(0, 7).low == 0
    assert wilson(7, 7).high == 1
    assert wilson(0, 0) == (0, 1)


def test_the_paired_interval_counts_what_changed():
    before, after = np.zeros(100, bool), np.zeros(100, bool)
    before[:30], after[10:50] = True, True  # 10 lost, 20 gained
    p, q, n = 21 / 102, 11 / 102, 102
    half = Z * math.sqrt((p + q - (p - q) ** 2) / n)
    assert paired_proportions(before, after) == pytest.approx((p - q - half, p - q + half))
    low, high = paired_proportions(before, before)
    assert low == -high < 0  # no change seen is no proof of none


def test_paired_intervals_hold_the_truth_as_often_as_they_say():
    rng, held = np.random.default_rng(1), 0
    for _ in range(2000):
        before, flips = rng.random(60) < 0.5, rng.random(60)
        after = np.where(before, flips > 0.1, flips < 0.3)  # 0.5 -> 0.5 * 0.9 + 0.5 * 0.3 = 0.6
        low, high = paired_proportions(before, after)
        held += low <= 0.1 <= high
    assert 0.93 < held / 2000 < 0.98


def test_the_bootstrap_is_repeated_bit_for_bit_and_near_the_normal_interval():
    rng = np.random.default_rng(2)
    total, weight = rng.normal(3, 1, 400), np.ones(400)
    found = bootstrap_ratio(total, weight)
    assert found == bootstrap_ratio(total, weight)
    half = Z * total.std() / 20
    assert found == pytest.approx((total.mean() - half, total.mean() + half), abs=0.1 * half)
    assert bootstrap_ratio(total[:1], weight[:1]) == (total[0], total[0])


def test_quantiles_of_students_t_as_published():
    table = {(0.975, 1): 12.706, (0.975, 2): 4.3027, (0.975, 4): 2.7764, (0.995, 9): 3.2498, (0.975, 1000): 1.9623}
    for (share, freedom), value in table.items():
        assert student_quantile(share, freedom) == pytest.approx(value, rel=5e-5)
    assert student_quantile(0.5, 7) == pytest.approx(0.0, abs=1e-12)


def test_means_of_pairs_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.3, 1.0, (2000, 4))
    for comparisons, outside in ((1, 0.05), (5, 0.01)):
        held = [low <= 0.3 <= high for low, high in (paired_means(each, comparisons) for each in draws)]
        assert 1 - np.mean(held) == pytest.approx(outside, abs=0.012)


def test_one_pair_tells_nothing():
    assert paired_means(np.array([0.5])) == (-math.inf, math.inf)
