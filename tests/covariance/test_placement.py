"""Directions that are drawn: apart, within the view, even, and refused where there is no room."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopos.covariance import ULA, URA
from loopos.covariance.placement import place


def test_directions_of_a_line_are_apart_sorted_and_within_the_view():
    found = np.array([place(ULA(8), 5, 0.2, 0.9, 1, index) for index in range(200)])
    assert np.diff(found, axis=1).min() >= 0.2 - 1e-12
    assert np.abs(found).max() <= 0.9
    assert np.abs(found).max() > 0.88


def test_widened_gaps_are_as_refused_candidates():
    """The direct draw has the distribution that SubspaceNet gets by refusing whole sets: the mean of each direction."""
    rng = np.random.default_rng(0)
    sets = np.sort(rng.uniform(-1, 1, (30_000, 3)), axis=1)
    kept = sets[(np.diff(sets, axis=1) > 0.3).all(1)]
    found = np.array([place(ULA(8), 3, 0.3, 1.0, 2, index) for index in range(600)])
    spread = kept.std(0) * np.sqrt(1 / 600 + 1 / len(kept))
    assert (np.abs(found.mean(0) - kept.mean(0)) < 4 * spread).all()
    np.testing.assert_allclose(found.std(0), kept.std(0), rtol=0.12)


def test_directions_of_a_plane_are_apart_sorted_and_within_the_view():
    array = URA(4, 4)
    for index in range(50):
        found = place(array, 4, 0.4, 1.0, 1, index)
        units = array.unit_vectors(found)
        assert (units @ units.T - np.eye(4)).max() <= math.cos(0.4)
        assert np.abs(found).max() <= 1.0
        assert (np.diff(found[:, 0]) >= 0).all()


def test_directions_of_a_plane_are_even_over_the_sphere():
    found = np.concatenate([place(URA(4, 4), 1, 0.0, 1.0, 1, index) for index in range(600)])
    for values, edge in ((found[:, 0], 1.0), (np.sin(found[:, 1]), math.sin(1.0))):
        assert abs(values.mean()) < 4 * edge / math.sqrt(3 * 600)
        assert values.std() == pytest.approx(edge / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("array", [ULA(20), URA(5, 5)], ids=["line", "plane"])
def test_no_room_is_said(array):
    with pytest.raises(ValueError, match=r"9 sources at least 57\.3 degrees apart find no room from -45\.84 to 45\.84"):
        place(array, 9, 1.0, 0.8, 0, 0)
