"""Cramér-Rao bounds against Fisher information by finite differences, and against formulas that others published."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.covariance import ULA, URA, CalibrationErrors, cramer_rao, direction_bound

RNG = np.random.default_rng(3)
LINE, PLANE = np.array([-0.4, 0.3]), np.array([[-0.4, 0.2], [0.3, -0.5]])
SICK = CalibrationErrors(gain=1.0, phase=0.3, position=0.05).array(ULA(5))
ARRAYS = {"line": (ULA(5), LINE), "plane": (URA(2, 3), PLANE), "sick": (SICK, LINE)}
POWER = np.array([[2.0, 0.7 - 0.4j], [0.7 + 0.4j, 1.5]])
COHERENT = np.array([[2.0, 2j], [-2j, 2.0]])


def differences(function, parameters):
    """The derivative of an array by each parameter."""
    slopes = []
    for place in range(len(parameters)):
        step = 1e-5 * np.eye(len(parameters))[place]
        slopes.append((function(parameters + step) - function(parameters - step)) / 2e-5)
    return slopes


def by_fisher_stochastic(array, directions, power, noise, snapshots):
    """All parameters of N(0, R): angles, P (real, imaginary), noise; L tr(R^-1 dR_i R^-1 dR_j), inverted."""
    size = directions.size

    def covariance(parameters):
        steering = array.steering(parameters[:size].reshape(directions.shape))
        first, second, real, imaginary, variance = parameters[size:]
        matrix = np.array([[first, real + 1j * imaginary], [real - 1j * imaginary, second]])
        return steering @ matrix @ steering.conj().T + variance * np.eye(array.sensors)

    rest = [power[0, 0].real, power[1, 1].real, power[0, 1].real, power[0, 1].imag, noise]
    parameters = np.concatenate([directions.ravel(), rest])
    inverse = np.linalg.inv(covariance(parameters))
    whitened = [inverse @ slope for slope in differences(covariance, parameters)]
    information = snapshots * np.array([[np.trace(a @ b).real for b in whitened] for a in whitened])
    return np.linalg.inv(information)[:size, :size]


def by_fisher_deterministic(array, directions, signals, noise):
    """All parameters of a mean A s(l) in noise: angles and every s(l); 2 / v Re(dm_iᴴ dm_j), inverted."""
    size, length = directions.size, signals.shape[1]

    def mean(parameters):
        steering = array.steering(parameters[:size].reshape(directions.shape))
        real, imaginary = parameters[size:].reshape(2, 2, length)
        return (steering @ (real + 1j * imaginary)).ravel()

    parameters = np.concatenate([directions.ravel(), signals.real.ravel(), signals.imag.ravel()])
    slopes = np.array(differences(mean, parameters))
    return np.linalg.inv(2 / noise * (slopes.conj() @ slopes.T).real)[:size, :size]


@pytest.mark.parametrize(("array", "directions"), ARRAYS.values(), ids=ARRAYS.keys())
@pytest.mark.parametrize("power", [POWER, np.diag([2.0, 1.5])], ids=["correlated", "independent"])
def test_stochastic_as_by_fisher_information(array, directions, power):
    found = cramer_rao(array, directions, power, 20, noise=0.8)
    wanted = by_fisher_stochastic(array, directions, power, 0.8, 20)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7 * np.abs(wanted).max())


@pytest.mark.parametrize(("array", "directions"), ARRAYS.values(), ids=ARRAYS.keys())
@pytest.mark.parametrize("mix", [np.eye(2), np.ones((2, 2))], ids=["independent", "coherent"])
def test_deterministic_as_by_fisher_information(array, directions, mix):
    signals = mix @ (RNG.standard_normal((2, 4)) + 1j * RNG.standard_normal((2, 4)))
    power = signals @ signals.conj().T / 4
    found = cramer_rao(array, directions, power, 4, noise=0.8, kind="deterministic")
    wanted = by_fisher_deterministic(array, directions, signals, 0.8)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7 * np.abs(wanted).max())


def test_the_formulas_of_doatools_for_one_angle():
    """``crb_sto_farfield_1d`` and ``crb_det_farfield_1d`` of doatools.py (MIT), as they are written there."""
    array, noise, snapshots = ULA(9), 0.7, 30
    A, D = array.steering(LINE), array.derivatives(LINE)[..., 0]
    AH, eye = A.conj().T, np.eye(9)
    R = A @ POWER @ AH + noise * eye
    H = D.conj().T @ (eye - A @ np.linalg.solve(AH @ A, AH)) @ D
    stochastic = np.linalg.inv((H * (POWER @ (AH @ np.linalg.solve(R, A)) @ POWER).T).real) * (noise / snapshots / 2)
    deterministic = np.linalg.inv((H * POWER.T).real) * (noise / snapshots / 2)
    for kind, wanted in (("stochastic", stochastic), ("deterministic", deterministic)):
        np.testing.assert_allclose(
            cramer_rao(array, LINE, POWER, snapshots, noise=noise, kind=kind), wanted, rtol=1e-11
        )


def test_one_source_on_a_line_in_closed_form():
    """6 / (L SNR N (N^2 - 1)) of the phase between sensors, times 1 + 1 / (N SNR) if stochastic."""
    N, L, snr, here = 10, 40, 2.0, 0.4
    phase = 6 / (L * snr * N * (N**2 - 1))
    angle = phase / (np.pi * np.cos(here)) ** 2
    assert cramer_rao(ULA(N), [here], snr, L, kind="deterministic").item() == pytest.approx(angle)
    assert cramer_rao(ULA(N), [here], snr, L).item() == pytest.approx(angle * (1 + 1 / (N * snr)))


def test_the_bound_on_the_angle_of_a_plane_does_not_depend_on_the_axes():
    """Two sources in a square array, and the scene mirrored at the diagonal, where the angles change roles."""
    array, units = URA(5, 5), URA(5, 5).unit_vectors(PLANE)
    swapped = units[:, [0, 2, 1]]
    mirrored = np.stack([np.arctan2(swapped[:, 1], swapped[:, 0]), np.arcsin(swapped[:, 2])], -1)
    np.testing.assert_allclose(
        direction_bound(array, mirrored, POWER, 9), direction_bound(array, PLANE, POWER, 9), rtol=1e-10
    )


def test_the_deterministic_bound_lies_below_the_stochastic_one():
    for power in (POWER, COHERENT, np.diag([0.1, 5.0])):
        stochastic, deterministic = (
            cramer_rao(ULA(6), LINE, power, 10, kind=kind) for kind in ("stochastic", "deterministic")
        )
        assert np.linalg.eigvalsh(stochastic - deterministic).min() > 0


def test_the_bound_falls_with_snapshots_and_near_sources_are_hard():
    np.testing.assert_allclose(direction_bound(ULA(6), LINE, 1.0, 400), direction_bound(ULA(6), LINE, 1.0, 100) / 2)
    near = direction_bound(ULA(6), [0.2, 0.25], [1.0, 1.0], 100)
    assert (near > 5 * direction_bound(ULA(6), LINE, [1.0, 1.0], 100)).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: cramer_rao(ULA(3), [0.1, 0.2, 0.3], 1.0, 9), r"directions must be of 1 to 2 sources, got \(3,\)"),
        (lambda: cramer_rao(ULA(5), [0.1, 0.1], 1.0, 9), r"leave the angles undetermined: sources in one place"),
        (lambda: cramer_rao(ULA(5), [0.1, 0.4], [1.0, 0.0], 9), r"a source of no power"),
        (lambda: cramer_rao(ULA(5), [0.1, 0.4], [1.0], 9), r"source_covariance must be of 2 sources, got 1 powers"),
        (lambda: cramer_rao(ULA(5), [0.1], np.eye(2), 9), r"must have the shape \(1, 1\), got \(2, 2\)"),
        (lambda: cramer_rao(ULA(5), [0.1, 0.4], [[1, 1], [0, 1]], 9), r"must be finite and Hermitian"),
        (lambda: cramer_rao(ULA(5), [0.1], 1.0, 9, noise=0.0), r"noise must be a finite number greater than 0"),
        (lambda: cramer_rao(ULA(5), [0.1], 1.0, 9, kind="x"), r"kind must be one of 'stochastic', 'deterministic'"),
    ],
)
def test_what_has_no_bound_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="cramer_rao: array must be a SensorArray, got 5"):
        cramer_rao(5, [0.1], 1.0, 9)
