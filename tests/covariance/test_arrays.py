"""Steering vectors against their formulas, derivatives against differences, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.covariance import ULA, URA, CalibrationErrors, SensorArray

ANYWHERE = np.random.default_rng(0).uniform(-1, 1, (5, 3))
ANGLES = np.array([-0.9, 0.0, 0.4])
PAIRS = np.array([[-0.9, 0.3], [0.0, 0.0], [0.4, -0.6]])


def test_a_line_has_the_textbook_steering_vector():
    wanted = np.exp(1j * np.pi * np.arange(5)[:, None] * np.sin(ANGLES))
    np.testing.assert_allclose(ULA(5).steering(ANGLES), wanted, atol=1e-14)
    np.testing.assert_allclose(ULA(5, spacing=-0.5).steering(ANGLES), wanted.conj(), atol=1e-14)


def test_a_plane_is_the_product_of_two_lines():
    azimuth, elevation = PAIRS.T
    across = np.exp(1j * np.pi * np.arange(4)[:, None] * np.cos(elevation) * np.sin(azimuth))
    up = np.exp(1j * np.pi * np.arange(3)[:, None] * np.sin(elevation))
    wanted = (up[:, None] * across[None]).reshape(12, 3)
    np.testing.assert_allclose(URA(3, 4).steering(PAIRS), wanted, atol=1e-14)
    assert URA(12, 12).sensors == 144
    level = np.stack([ANGLES, 0 * ANGLES], -1)  # at no elevation a row is a line
    np.testing.assert_allclose(URA(1, 5).steering(level), ULA(5).steering(ANGLES), atol=1e-14)


def test_batches_are_as_one_by_one():
    many = np.stack([ANGLES, ANGLES / 2])
    np.testing.assert_array_equal(ULA(5).steering(many)[1], ULA(5).steering(ANGLES / 2))
    assert URA(3, 4).steering(np.stack([PAIRS, PAIRS])).shape == (2, 12, 3)
    assert URA(3, 4).derivatives(np.stack([PAIRS, PAIRS])).shape == (2, 12, 3, 2)


@pytest.mark.parametrize(
    ("array", "directions"),
    [
        (ULA(6), ANGLES),
        (URA(3, 4), PAIRS),
        (SensorArray(ANYWHERE), ANGLES),
        (SensorArray(ANYWHERE, angles=2), PAIRS),
        (CalibrationErrors(gain=1, phase=0.2, position=0.05, coupling=0.2j).array(URA(3, 4)), PAIRS),
        (CalibrationErrors(gain=1, position=0.05).array(ULA(6)), ANGLES),
    ],
    ids=["line", "plane", "anywhere, one angle", "anywhere, two", "sick plane", "sick line"],
)
def test_derivatives_are_the_limits_of_differences(array, directions):
    slopes, step = array.derivatives(directions), 1e-6
    for angle in range(array.angles):
        move = step * (np.eye(2)[angle] if array.angles == 2 else 1.0)
        wanted = (array.steering(directions + move) - array.steering(directions - move)) / (2 * step)
        np.testing.assert_allclose(slopes[..., angle], wanted, rtol=0, atol=1e-8)


def test_unit_vectors_have_length_one():
    np.testing.assert_allclose(np.linalg.norm(URA(2, 2).unit_vectors(PAIRS), axis=-1), 1)
    np.testing.assert_allclose(ULA(2).unit_vectors(np.array([np.pi / 2])), [[0, 1, 0]], atol=1e-15)


def test_the_beamwidth_is_where_the_beam_has_its_zero():
    line = ULA(8)
    zero = np.arcsin(line.beamwidth)
    assert abs(np.vdot(line.steering(np.array([zero])), line.steering(np.array([0.0])))) < 1e-12
    assert URA(12, 6).beamwidth == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: ULA(0), ValueError, r"ULA: sensors must be an integer of at least 1, got 0"),
        (lambda: ULA(3, 0.0), ValueError, r"ULA: spacing must not be 0: all sensors would stand at one place"),
        (lambda: URA(3, 2.0), TypeError, r"URA: columns must be an integer"),
        (lambda: ULA(3).steering([30.0]), ValueError, r"radians from -pi/2 to pi/2, got 30; numpy.deg2rad converts"),
        (lambda: ULA(3).steering([np.nan]), ValueError, r"directions must be finite, got nan"),
        (lambda: ULA(3).steering(0.1), ValueError, r"must have the shape \(\.\.\., K\) got \(\)"),
        (lambda: URA(3, 3).steering([0.1]), ValueError, r"\(\.\.\., K, 2\), azimuth and elevation, got \(1,\)"),
        (lambda: SensorArray(np.zeros((3, 2))), ValueError, r"positions must have the shape \(N, 3\), got \(3, 2\)"),
        (lambda: SensorArray(np.zeros((2, 3)), response=np.eye(3)), ValueError, r"response must have .*\(2, 2\), got"),
        (lambda: SensorArray(np.full((2, 3), np.inf)), ValueError, r"positions and response must be finite"),
    ],
)
def test_what_is_no_array_is_refused(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
