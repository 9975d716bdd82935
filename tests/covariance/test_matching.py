"""Errors of directions: the best permutation, SubspaceNet's metric, and the angle on the sphere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from loopos.covariance import URA, best_permutation, direction_errors, rmspe, root_mean_square


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_the_permutation_is_the_best_of_all(count):
    cost = np.random.default_rng(count).uniform(size=(count, count))
    best = min(itertools.permutations(range(count)), key=lambda p: cost[range(count), p].sum())
    np.testing.assert_array_equal(best_permutation(cost), best)


def test_sixteen_are_not_too_many():
    order = np.random.default_rng(0).permutation(10)
    cost = np.ones((10, 10))
    cost[np.arange(10), order] = 0
    np.testing.assert_array_equal(best_permutation(cost), order)


def test_errors_of_a_line_stand_in_the_order_of_the_truth():
    np.testing.assert_allclose(direction_errors([0.31, -0.2, 1.0], [1.1, 0.3, -0.4]), [-0.1, 0.01, 0.2])
    assert direction_errors([], []).shape == (0,)


def test_subspacenets_metric_as_its_code_has_it():
    rng = np.random.default_rng(1)
    for _ in range(20):
        found, true = rng.uniform(-1.5, 1.5, (2, 4))
        values = []
        for each in itertools.permutations(found):
            error = (((np.array(each) - true) + np.pi / 2) % np.pi) - np.pi / 2
            values.append(np.linalg.norm(error) / np.sqrt(4))
        assert rmspe(found, true) == pytest.approx(min(values), abs=1e-14)
    assert rmspe([1.5], [-1.5]) == pytest.approx(np.pi - 3)
    assert root_mean_square(direction_errors([1.5], [-1.5])) == 3.0


def test_errors_of_a_plane_are_angles_on_the_sphere():
    rng = np.random.default_rng(2)
    found, true = rng.uniform(-1, 1, (2, 3, 2))
    units = URA(2, 2).unit_vectors
    table = np.arccos(units(true) @ units(found).T)
    best = min(itertools.permutations(range(3)), key=lambda p: np.square(table[range(3), p]).sum())
    np.testing.assert_allclose(direction_errors(found, true), table[range(3), best], atol=1e-12)


def test_a_small_angle_is_right():
    at = np.array([[0.3, 1.2]])
    np.testing.assert_allclose(direction_errors(at + np.array([1e-9, 0]), at), np.cos(1.2) * 1e-9, rtol=1e-6)
    np.testing.assert_allclose(direction_errors(at + np.array([0, 1e-9]), at), 1e-9, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: direction_errors([0.1], [0.1, 0.2]), r"both be \(K,\) or both \(K, 2\), got \(1,\) and \(2,\)"),
        (lambda: direction_errors([[0.1] * 3], [[0.1] * 3]), r"both be \(K,\) or both \(K, 2\)"),
        (lambda: direction_errors([np.nan], [0.1]), r"directions must be finite"),
        (lambda: rmspe([[0.1, 0.2]], [[0.1, 0.2]]), r"rmspe: directions must be \(K,\), of a line"),
        (lambda: root_mean_square([]), r"errors must not be empty"),
        (lambda: best_permutation(np.zeros((17, 17))), r"cost must be \(K, K\) with K from 1 to 16, got \(17, 17\)"),
        (lambda: best_permutation(np.full((2, 2), np.inf)), r"cost must be finite"),
    ],
)
def test_what_cannot_be_matched_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
