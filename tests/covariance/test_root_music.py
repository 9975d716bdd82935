"""Root-MUSIC: exact on exact covariances, with or without noise in them, and as good as its bound."""

from __future__ import annotations

import numpy as np
import pytest
from covariance_scenes import LINE, ON_LINE, PLANE, trials, true_covariance

from loopos.covariance import ULA, direction_bound, direction_errors, music, root_mean_square, root_music


def test_a_true_covariance_gives_the_directions():
    np.testing.assert_allclose(root_music(true_covariance(LINE, ON_LINE), LINE, 3), ON_LINE, atol=1e-12)
    steering = LINE.steering(ON_LINE)  # no noise at all: double roots on the circle
    np.testing.assert_allclose(root_music(steering @ steering.conj().T, LINE, 3), ON_LINE, atol=1e-12)


def test_as_many_sources_as_a_line_can_tell():
    many = np.arcsin(np.linspace(-0.9, 0.8, 7))
    np.testing.assert_allclose(root_music(true_covariance(LINE, many), LINE, 7), many, atol=1e-9)


def test_another_spacing_and_the_other_sign():
    for spacing in (0.3, -0.5):
        array = ULA(8, spacing)
        np.testing.assert_allclose(root_music(true_covariance(array, ON_LINE), array, 3), ON_LINE, atol=1e-10)


def test_a_long_line():
    array = ULA(60)
    np.testing.assert_allclose(root_music(true_covariance(array, ON_LINE), array, 3), ON_LINE, atol=1e-8)


def test_the_error_is_within_a_tenth_of_the_bound():
    """400 trials of two sources: the root of the mean square has a relative deviation of 0.025."""
    directions = np.array([-0.3, 0.25])
    found = [root_music(each, LINE, 2) for each in trials(LINE, directions, 10, 200, 400)]
    bound = root_mean_square(direction_bound(LINE, directions, 10.0, 200))
    assert 0.9 < root_mean_square([direction_errors(each, directions) for each in found]) / bound < 1.1


def test_it_agrees_with_the_spectrum_above_the_threshold():
    for each in trials(LINE, ON_LINE[[0, 2]], 20, 100, 5):
        np.testing.assert_allclose(root_music(each, LINE, 2), music(each, LINE, 2), atol=3e-4)


def test_a_plane_is_refused():
    with pytest.raises(TypeError, match=r"root_music: array must be a ULA, got .*music and esprit take a plane"):
        root_music(np.eye(30), PLANE, 2)
