"""The random numbers of a simulation: fixed, apart, and of the right distribution."""

from __future__ import annotations

import numpy as np

from loopos.covariance import draws


def test_the_numbers_are_those_of_the_day_they_were_written():
    wanted = [0.6984548064324436, 0.8616281178505683, 0.7292162974187453]
    np.testing.assert_array_equal(draws.uniform(3, draws.NOISE, 5, 7), wanted)  # else: other samples for the same seed


def test_a_longer_draw_begins_with_the_shorter_one():
    for kind in (draws.uniform, draws.circular, draws.normal):
        np.testing.assert_array_equal(kind(9, 1, 5, 7)[:4], kind(4, 1, 5, 7))


def test_seed_index_and_site_each_give_other_numbers():
    base = draws.uniform(4, 1, 5, 7)
    for other in (draws.uniform(4, 2, 5, 7), draws.uniform(4, 1, 6, 7), draws.uniform(4, 1, 5, 8)):
        assert not (base == other).any()


def test_moments():
    numbers = draws.circular(200_000, 1, 0, 0)
    assert abs(np.mean(np.abs(numbers) ** 2) - 1) < 4 / np.sqrt(200_000)
    assert abs(np.mean(numbers)) < 4 / np.sqrt(200_000)
    assert abs(np.mean(numbers**2)) < 4 * np.sqrt(2 / 200_000)  # circular: no correlation with its conjugate
    assert abs(np.mean(np.abs(numbers) ** 4) - 2) < 4 * np.sqrt(20 / 200_000)
    assert abs(np.var(draws.normal(200_000, 1, 0, 0)) - 1) < 4 * np.sqrt(2 / 200_000)
    flat = draws.uniform(200_000, 1, 0, 1)
    assert 0 < flat.min() < 1e-4 < 1 - 1e-4 < flat.max() < 1
