"""Verdicts on made-up losses."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.compare.verdict import of_losses


def losses(**found):
    return {name: dict(enumerate(values)) for name, values in found.items()}


def test_a_difference_that_every_seed_shows_is_told_though_the_seeds_lie_further_apart():
    seeds = np.array([2.0, 2.5, 3.0])  # the spread of the seeds is five times the difference
    found = of_losses(losses(a=seeds, b=seeds + np.array([0.10, 0.11, 0.09])))
    assert found["a"].says == "best"
    assert found["b"].kind == "worse"
    assert found["b"].says == "worse than a by 0.1000 (0.0752 to 0.1248)"  # 0.1 +- 4.3027 * 0.01 / sqrt(3)


def test_a_difference_within_the_spread_is_said_to_be_so():
    found = of_losses(losses(a=[2.0, 2.2, 2.1], b=[2.1, 2.1, 2.2]))
    assert found["a"].says == "lowest, but b is within the spread of the seeds"
    assert found["b"].says == "within the spread of the best: 0.0333 (-0.2535 to 0.3202)"


def test_more_comparisons_make_each_of_them_wider():
    shifts = np.array([0.10, 0.14, 0.06])
    two = of_losses(losses(a=[2.0] * 3, b=2 + shifts))
    five = of_losses(losses(a=[2.0] * 3, b=2 + shifts, c=[9.0] * 3, d=[9.0] * 3, e=[9.0] * 3))
    assert two["b"].kind == "worse"
    assert five["b"].kind == "within"  # 0.1 +- 8.8602 * 0.04 / sqrt(3): see the t table at 0.05 / 4
    assert five["b"].difference[1].high == pytest.approx(0.1 + 8.8602 * 0.04 / 3**0.5, rel=1e-4)
    assert five["c"].says == "worse than a by 7.0000 (7.0000 to 7.0000)"


def test_one_seed_ranks_nothing():
    found = of_losses(losses(a=[2.0], b=[3.0]))
    assert found["a"].says == "one seed: no spread, no ranking (the lowest)"
    assert found["b"].says == "one seed: no spread, no ranking (+1.0000 from the lowest)"
    assert {each.kind for each in found.values()} == {"one seed"}


def test_the_only_one_left():
    assert of_losses(losses(a=[2.0, 2.1]))["a"].says == "the only one that finished"


def test_equal_losses_are_within_the_spread():
    found = of_losses(losses(a=[2.0, 2.1], b=[2.0, 2.1]))
    assert found["b"].kind == "within"
