"""Simulated samples: the truth beside them is their truth, and sample i is the same whatever the batch."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from loopos.covariance import ULA, URA, CalibrationErrors, Simulation, subspacenet

SICK = CalibrationErrors(gain=1.0, phase=0.2, position=0.03, coupling=0.1 + 0.1j)
SETTINGS = {
    "line": Simulation(ULA(6), sources=2, snapshots=20),
    "plane": Simulation(URA(3, 4), sources=(1, 3), snr=(-5, 5), snapshots=7, correlation=0.5),
    "sick": Simulation(ULA(6), errors=replace(SICK, fixed=False), snapshots=5, dtype="complex64"),
    "subspacenet": subspacenet(),
}


@pytest.fixture(params=SETTINGS.values(), ids=SETTINGS.keys())
def simulation(request):
    return request.param


def test_a_sample_is_the_same_whatever_the_batch(simulation):
    many, one = simulation.samples(0, 6), simulation.samples(4, 1)
    for each in fields(many):
        whole, part = getattr(many, each.name), getattr(one, each.name)
        if isinstance(whole, np.ndarray):
            np.testing.assert_array_equal(whole[4:5], part, err_msg=each.name)
    assert not np.array_equal(many.snapshots[0], many.snapshots[1])
    assert not np.array_equal(many.snapshots[0], replace(simulation, seed=9).samples(0, 1).snapshots[0])


def test_shapes_and_types(simulation):
    samples, most = simulation.samples(0, 3), simulation.most_sources
    sensors, angles = simulation.array.sensors, (2,) if simulation.array.angles == 2 else ()
    assert samples.snapshots.shape == (3, simulation.snapshots, sensors)
    assert samples.snapshots.dtype == simulation.dtype
    assert samples.directions.shape == (3, most, *angles)
    assert samples.covariance.shape == (3, sensors, sensors)
    assert samples.source_covariance.shape == (3, most, most)
    assert (len(samples), len(samples.arrays), samples.noise) == (3, 3, 1.0)
    for index in range(3):
        assert np.isfinite(samples.of(index)).all()
        assert np.isnan(samples.directions[index, samples.sources[index] :]).all()


def test_the_covariance_is_that_of_its_parts(simulation):
    samples = simulation.samples(2, 3)
    for index, array in enumerate(samples.arrays):
        here, sources = array.steering(samples.of(index)), samples.sources[index]
        power = samples.source_covariance[index, :sources, :sources]
        wanted = here @ power @ here.conj().T + np.eye(array.sensors)
        np.testing.assert_allclose(samples.covariance[index], wanted, atol=1e-11 * np.abs(wanted).max())
        np.testing.assert_allclose(np.diag(power).real, 10 ** (samples.snr[index] / 10))


@pytest.mark.parametrize("name", ["line", "plane", "sick", "subspacenet"])
def test_the_sample_covariance_comes_to_the_true_one(name):
    """R_samp_ij = mean of x_i conj(x_j) has the variance R_ii R_jj / L."""
    length = 20_000
    samples = replace(SETTINGS[name], snapshots=length, dtype="complex128").samples(1, 1)
    rows, true = samples.snapshots[0], samples.covariance[0]
    found = rows.T @ rows.conj() / length
    scale = np.sqrt(np.outer(np.diag(true).real, np.diag(true).real) / length)
    assert np.abs((found - true) / scale).max() < 4.5
    assert np.abs((found - true) / scale).mean() == pytest.approx(np.sqrt(np.pi) / 2, rel=0.6)


def test_the_snr_is_a_ratio_of_powers_of_one_source_at_one_sensor():
    quiet = Simulation(ULA(4), sources=1, snr=-200, snapshots=50_000).samples(0, 1).snapshots[0]
    heard = Simulation(ULA(4), sources=1, snr=10, snapshots=50_000).samples(0, 1).snapshots[0]
    assert np.mean(np.abs(quiet) ** 2) == pytest.approx(1, rel=0.01)
    assert np.mean(np.abs(heard) ** 2) == pytest.approx(11, rel=0.02)


def test_a_sweep_keeps_directions_signals_and_noise():
    base = SETTINGS["line"]
    longer, louder = replace(base, snapshots=30), replace(base, snr=30.0)
    here, there, loud = (each.samples(3, 2) for each in (base, longer, louder))
    np.testing.assert_allclose(there.snapshots[:, :20], here.snapshots, rtol=1e-13)
    np.testing.assert_array_equal(loud.directions, here.directions)
    noise = replace(base, snr=-200.0).samples(3, 2).snapshots
    np.testing.assert_allclose(loud.snapshots - noise, (here.snapshots - noise) * 10, rtol=1e-7)


def test_coherent_sources_have_one_waveform():
    samples = Simulation(ULA(6), sources=3, correlation=1.0).samples(0, 1)
    values = np.linalg.eigvalsh(samples.source_covariance[0])
    assert values[-1] == pytest.approx(30)
    assert np.abs(values[:-1]).max() < 1e-12
    assert np.angle(samples.source_covariance[0, 0, 1]) != 0
    half = Simulation(ULA(6), sources=3, correlation=0.5).samples(0, 1).source_covariance[0]
    np.testing.assert_allclose(np.abs(half), 10 * (0.5 + 0.5 * np.eye(3)))


def test_numbers_of_sources_and_decibels_are_drawn_evenly():
    samples = Simulation(ULA(6), sources=(1, 3), snr=(-10, 10), snapshots=1, separation=0.1).samples(0, 600)
    counts = np.bincount(samples.sources, minlength=4)[1:]
    assert np.abs(counts - 200).max() < 4 * np.sqrt(600 * 2 / 9)
    assert samples.snr.std() == pytest.approx(20 / np.sqrt(12), rel=0.1)


def test_errors_that_are_fixed_are_one_array():
    fixed = Simulation(ULA(6), errors=SICK).samples(0, 2)
    assert fixed.arrays[0] is fixed.arrays[1]
    drawn = SETTINGS["sick"].samples(0, 2)
    assert not np.array_equal(drawn.arrays[0].response, drawn.arrays[1].response)


@pytest.mark.parametrize(
    ("array", "given", "kept"),
    [
        (ULA(6), [0.5, -0.2, 0.1], [-0.2, 0.1, 0.5]),
        (URA(2, 3), np.array([[0.5, 0.1], [-0.2, 0.3], [-0.2, 0.1]]), [[-0.2, 0.1], [-0.2, 0.3], [0.5, 0.1]]),
    ],
    ids=["line", "plane"],
)
def test_directions_that_are_given_are_those_of_all_samples(array, given, kept):
    simulation = replace(Simulation(array, directions=given, snapshots=3), snr=3.0)
    samples = simulation.samples(4, 2)
    np.testing.assert_array_equal(samples.directions, [kept, kept])
    assert simulation.sources == 3
    assert not np.array_equal(*samples.snapshots)
    with pytest.raises(ValueError, match="Simulation: directions are radians"):
        replace(simulation, directions=np.rad2deg(given))
    with pytest.raises(ValueError, match="directions must be those of one sample"):
        replace(simulation, directions=[given, given])


def test_the_setting_of_subspacenet_in_both_decibels():
    theirs, true = subspacenet(10.0), subspacenet(10.0, published=False)
    assert (theirs.snr, true.snr) == (20.0, 10.0)
    samples = theirs.samples(0, 40)
    assert samples.snapshots.shape == (40, 100, 8)
    np.testing.assert_allclose(samples.source_covariance, 100.0)  # their amplitude 10^(10 / 10), one phase
    assert np.diff(samples.directions, axis=1).min() >= math.radians(15) - 1e-12
    assert subspacenet(snapshots=7, seed=3).snapshots == 7


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sources": 6}, r"Simulation: sources must be an integer from 1 to 5, got 6"),
        ({"sources": (3, 2)}, r"sources must be an integer from 3 to 5, got 2"),
        ({"sources": (1, 2, 3)}, r"sources must be one number or \(low, high\), got \(1, 2, 3\)"),
        ({"snr": math.nan}, r"snr must be a finite number"),
        ({"correlation": 1.5}, r"correlation must be a finite number at least 0 and at most 1"),
        ({"phases": "none"}, r"phases must be one of 'random', 'equal'"),
        ({"view": 60.0}, r"view must be a finite number"),
        ({"dtype": "float32"}, r"dtype must be one of 'complex64', 'complex128'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Simulation(ULA(6), **settings)


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="array must be a ULA or a URA, got 8"):
        Simulation(8)
    with pytest.raises(TypeError, match="errors must be CalibrationErrors or None"):
        Simulation(ULA(6), errors=0.1)
    with pytest.raises(ValueError, match=r"Simulation\.samples: first must be .* got -1"):
        Simulation(ULA(6)).samples(-1, 2)
