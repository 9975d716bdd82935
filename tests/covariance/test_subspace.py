"""What estimators share: the signal subspace, direction cosines there and back, and what is refused for all of them."""

from __future__ import annotations

import numpy as np
import pytest
from covariance_scenes import LINE, ON_LINE, SCENES, true_covariance

from loopos.covariance import URA, CalibrationErrors, esprit, music, root_music
from loopos.covariance.subspace import cosines, directions_of, residual, signal_subspace, wave_slopes, waves


@pytest.mark.parametrize(("array", "directions"), SCENES.values(), ids=SCENES.keys())
def test_the_signal_subspace_holds_the_steering_vectors(array, directions):
    signal = signal_subspace("x", true_covariance(array, directions), array, 3)
    np.testing.assert_allclose(signal.conj().T @ signal, np.eye(3), atol=1e-12)
    assert np.abs(residual(signal, array.steering(directions))).max() < 1e-12


@pytest.mark.parametrize(("array", "directions"), SCENES.values(), ids=SCENES.keys())
def test_direction_cosines_there_and_back(array, directions):
    at = cosines(array, directions)
    np.testing.assert_allclose(waves(array, at), array.steering(directions), atol=1e-13)
    np.testing.assert_allclose(directions_of(array, at[::-1]), directions, atol=1e-14)  # sorted again


@pytest.mark.parametrize(("array", "directions"), SCENES.values(), ids=SCENES.keys())
def test_slopes_are_the_limits_of_differences(array, directions):
    at, step = cosines(array, directions), 1e-6
    slopes = wave_slopes(array, waves(array, at))
    for axis in range(at.shape[1]):
        move = step * np.eye(at.shape[1])[axis]
        wanted = (waves(array, at + move) - waves(array, at - move)) / (2 * step)
        np.testing.assert_allclose(slopes[..., axis], wanted, atol=1e-8)


def test_what_is_not_visible_comes_to_the_edge():
    np.testing.assert_allclose(directions_of(LINE, np.array([[1.2], [-3.0]])), [-np.pi / 2, np.pi / 2])
    up = directions_of(URA(2, 2), np.array([[0.0, 2.0], [2.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(up, [[0, np.pi / 2], [0, np.pi / 2], [np.pi / 2, 0]], atol=1e-7)


@pytest.mark.parametrize("estimator", [music, root_music, esprit])
@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((np.eye(8), LINE, 8), ValueError, "sources must be an integer from 1 to 7, got 8"),
        ((np.eye(8), LINE, 2.0), TypeError, "sources must be an integer"),
        ((np.eye(7), LINE, 2), ValueError, "covariance is of 7 sensors, the array has 8"),
        ((np.ones((2, 8, 8)), LINE, 2), ValueError, r"one covariance \(N, N\) at a time, got \(2, 8, 8\)"),
        ((np.full((8, 8), np.nan), LINE, 2), ValueError, "covariance must be finite"),
        ((np.eye(8), CalibrationErrors().array(LINE), 2), TypeError, "array must be a ULA"),
    ],
)
def test_bad_input_is_refused_by_each(estimator, arguments, error, sentence):
    with pytest.raises(error, match=f"{estimator.__name__}: {sentence}"):
        estimator(*arguments)


@pytest.mark.parametrize("estimator", [music, root_music, esprit])
def test_scale_does_not_matter(estimator):
    covariance = true_covariance(LINE, ON_LINE)
    for scale in (1e-150, 1e150):
        np.testing.assert_allclose(estimator(scale * covariance, LINE, 3), ON_LINE, atol=1e-9)
