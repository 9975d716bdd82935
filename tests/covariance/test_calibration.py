"""Calibration errors: what they do to the steering vector, and that they are drawn as said."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.covariance import ULA, URA, CalibrationErrors, SensorArray

HERE = np.array([0.3])


def test_without_errors_nothing_changes():
    np.testing.assert_allclose(CalibrationErrors().array(ULA(4)).steering(HERE), ULA(4).steering(HERE), atol=1e-14)


def test_gain_and_phase_are_a_factor_a_sensor_of_the_size_that_was_asked_for():
    ideal = ULA(600, 0.001)
    factors = (CalibrationErrors(gain=0.5, phase=0.1).array(ideal, seed=1).steering(HERE) / ideal.steering(HERE))[:, 0]
    assert np.std(20 * np.log10(np.abs(factors))) == pytest.approx(0.5, rel=4 / np.sqrt(1200))
    assert np.std(np.angle(factors)) == pytest.approx(0.1, rel=4 / np.sqrt(1200))


def test_positions_move_in_the_plane_of_the_array():
    line = CalibrationErrors(position=0.02).array(ULA(500)).positions - ULA(500).positions
    plane = CalibrationErrors(position=0.02).array(URA(20, 25)).positions - URA(20, 25).positions
    assert not line[:, [0, 2]].any()
    assert not plane[:, 0].any()
    for moves in (line[:, 1], plane[:, 1], plane[:, 2]):
        assert np.std(moves) == pytest.approx(0.02, rel=0.15)


def test_coupling_falls_with_distance_and_ends_at_two_wavelengths():
    response = CalibrationErrors(coupling=0.2j).array(ULA(7)).response
    np.testing.assert_allclose(response[0], [1, 0.2j, 0.2j**2, 0.2j**3, 0.2j**4, 0, 0], atol=1e-14)
    np.testing.assert_array_equal(response, response.T)


def test_one_array_for_a_seed_or_one_for_each_sample():
    fixed, drawn = CalibrationErrors(phase=0.1), CalibrationErrors(phase=0.1, fixed=False)
    assert (fixed.array(ULA(4), 3, 0).response == fixed.array(ULA(4), 3, 9).response).all()
    assert not (fixed.array(ULA(4), 3).response == fixed.array(ULA(4), 4).response).all()
    assert not (drawn.array(ULA(4), 3, 0).response == drawn.array(ULA(4), 3, 9).response).all()


def test_a_response_that_was_there_stays_behind():
    ideal = SensorArray(ULA(2).positions, response=np.array([[0, 1], [1, 0]]))
    np.testing.assert_allclose(CalibrationErrors().array(ideal).steering(HERE), ideal.steering(HERE), atol=1e-14)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"gain": -1.0}, r"CalibrationErrors: gain must be a finite number at least 0"),
        ({"coupling": 1.0}, r"coupling must be a number below 1 in magnitude, got 1\.0"),
        ({"coupling": float("nan")}, r"coupling must be a number below 1"),
        ({"coupling": "x"}, r"coupling must be a number below 1"),
    ],
)
def test_what_is_no_error_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        CalibrationErrors(**settings)
