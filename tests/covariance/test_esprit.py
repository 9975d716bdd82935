"""ESPRIT: exact on exact covariances, pairs of a plane by themselves, and its errors against bound and theory."""

from __future__ import annotations

import numpy as np
import pytest
from covariance_scenes import LINE, PLANE, SCENES, trials, true_covariance

from loopos.covariance import ULA, URA, direction_bound, direction_errors, esprit, root_mean_square


@pytest.mark.parametrize("solver", ["tls", "ls"])
@pytest.mark.parametrize("displacement", [None, 1, 2])
@pytest.mark.parametrize(("array", "directions"), SCENES.values(), ids=SCENES.keys())
def test_a_true_covariance_gives_the_directions(array, directions, displacement, solver):
    found = esprit(true_covariance(array, directions), array, 3, displacement=displacement, solver=solver)
    np.testing.assert_allclose(found, directions, atol=1e-12)


@pytest.mark.parametrize(
    "directions",
    [
        [[-0.4, 0.3], [0.2, 0.3]],  # one elevation
        [[0.2, -0.4], [0.2, 0.5]],  # one azimuth
        np.arcsin([[0.3, 0.3], [0.3, -0.3]]),
        [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [-0.5, -0.3]],
    ],
)
def test_pairs_of_a_plane_come_out_right_where_one_axis_alone_cannot_tell(directions):
    directions = np.asarray(directions)
    found = esprit(true_covariance(PLANE, directions), PLANE, len(directions))
    assert direction_errors(found, directions).max() < 1e-9


def test_the_answer_of_a_long_shift_is_the_one_that_was_meant():
    array, directions = ULA(20), np.array([-1.3, -0.2, 0.3, 1.2])
    for shift in (None, 5, 16):
        found = esprit(true_covariance(array, directions), array, 4, displacement=shift)
        np.testing.assert_allclose(found, directions, atol=1e-10)


def test_a_lone_source_has_the_errors_of_theory():
    """Of the phase in N sensors the bound is 6 / (N (N^2 - 1)), of differences over a shift d, 2 d <= N, 1 / (d (N -
    d)^2); all shifts together reach the bound. Variances of 600 trials have a relative deviation of 0.058."""
    array, here = ULA(12), np.array([0.2])
    covariances = trials(array, here, 10, 50, 600)
    bound = direction_bound(array, here, 10.0, 50)[0]
    for shift, theory in ((1, 1 / 121), (4, 1 / 256), (None, 6 / (12 * 143))):
        errors = [direction_errors(esprit(each, array, 1, displacement=shift), here) for each in covariances]
        ratio = (root_mean_square(errors) / bound) ** 2
        assert ratio == pytest.approx(theory * 12 * 143 / 6, rel=0.2)


@pytest.mark.parametrize(
    ("array", "directions", "count"),
    [(ULA(12), np.array([-0.3, 0.25]), 400), (URA(6, 6), np.array([[-0.4, 0.1], [0.45, -0.3]]), 200)],
    ids=["line", "plane"],
)
def test_the_error_is_near_the_bound(array, directions, count):
    """The root of the mean square has a relative deviation of 1 / (2 sqrt(count)), 0.025 and 0.035."""
    errors = [direction_errors(esprit(R, array, 2), directions) for R in trials(array, directions, 10, 200, count)]
    bound = root_mean_square(direction_bound(array, directions, 10.0, 200))
    assert 0.9 < root_mean_square(errors) / bound < 1.1


def test_subarrays_that_cannot_tell_the_sources_apart_say_little():
    """Two sources of one azimuth: a subarray of one row sees a single direction. Unweighted, the error is 18 times the
    bound; the root of the mean square of 100 trials has a relative deviation of 0.05."""
    directions = np.array([[0.2, -0.3], [0.2, 0.25]])
    errors = [direction_errors(esprit(R, PLANE, 2), directions) for R in trials(PLANE, directions, 10, 100, 100)]
    assert root_mean_square(errors) / root_mean_square(direction_bound(PLANE, directions, 10.0, 100)) < 1.25


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"solver": "svd"}, "esprit: solver must be one of 'tls', 'ls'"),
        ({"displacement": 8}, "esprit: displacement must be an integer from 1 to 7, got 8"),
        ({"displacement": (1, 1)}, r"esprit: displacement must be 1 numbers, got \(1, 1\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        esprit(np.eye(8), LINE, 2, **arguments)


def test_too_many_sources_for_a_subarray():
    with pytest.raises(ValueError, match="sources must be at most 4, the sensors of a subarray, got 5"):
        esprit(np.eye(8), URA(2, 4), 5)
