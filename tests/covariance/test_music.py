"""MUSIC: exact on exact covariances, as good as its bound above the threshold, K answers below it."""

from __future__ import annotations

import numpy as np
import pytest
from covariance_scenes import LINE, ON_LINE, ON_PLANE, PLANE, SCENES, trials, true_covariance

from loopos.covariance import (
    ULA,
    URA,
    beam_spectrum,
    direction_bound,
    direction_errors,
    music,
    music_spectrum,
    root_mean_square,
    smoothed,
)


@pytest.mark.parametrize(("array", "directions"), SCENES.values(), ids=SCENES.keys())
def test_a_true_covariance_gives_the_directions_off_the_grid(array, directions):
    assert np.abs(direction_errors(music(true_covariance(array, directions), array, 3), directions)).max() < 1e-12


def test_two_sources_a_tenth_of_a_beamwidth_apart():
    near = np.array([0.2, 0.2 + LINE.beamwidth / 10])
    np.testing.assert_allclose(music(true_covariance(LINE, near), LINE, 2), near, atol=1e-7)


def test_a_source_at_the_edge_of_what_is_visible():
    edge = np.array([-1.5, 0.2])
    np.testing.assert_allclose(music(true_covariance(LINE, edge), LINE, 2), edge, atol=1e-9)


def test_the_other_convention_of_the_exponent():
    mirrored = ULA(8, spacing=-0.5)
    covariance = true_covariance(LINE, ON_LINE).conj()
    np.testing.assert_allclose(music(covariance, mirrored, 3), ON_LINE, atol=1e-12)


@pytest.mark.parametrize(
    ("array", "directions", "count"),
    [(ULA(8), np.array([-0.3, 0.25]), 200), (URA(4, 4), np.array([[-0.4, 0.1], [0.45, -0.3]]), 80)],
    ids=["line", "plane"],
)
def test_the_error_is_within_a_tenth_of_the_bound(array, directions, count):
    """MUSIC is as good as maximum likelihood for independent sources. The mean of ``count`` squared errors of two
    sources has a relative deviation of 1 / sqrt(count), its root half of that: 0.035 and 0.056 here."""
    errors = [direction_errors(music(each, array, 2), directions) for each in trials(array, directions, 10, 200, count)]
    bound = root_mean_square(direction_bound(array, directions, 10.0, 200))
    assert 1 - 2 / np.sqrt(count) < root_mean_square(errors) / bound < 1.1


def test_coherent_sources_after_smoothing():
    wave = LINE.steering(ON_LINE) @ np.exp(1j * np.array([0.3, 1.1, -2.0]))
    covariance = np.outer(wave, wave.conj()) + 1e-3 * np.eye(8)
    np.testing.assert_allclose(music(*smoothed(covariance, LINE), 3), ON_LINE, atol=1e-9)
    assert np.abs(direction_errors(music(covariance, LINE, 3), ON_LINE)).max() > 0.05


@pytest.mark.parametrize("array", [LINE, PLANE], ids=["line", "plane"])
def test_noise_alone_still_gives_as_many_directions(array):
    noise = trials(array, np.zeros((1, 2))[..., : array.angles].reshape(-1, *[2] * (array.angles - 1)), -60, 9, 5)
    for each in noise:
        for count in (1, 4):
            found = music(each, array, count)
            assert len(found) == count
            assert np.isfinite(found).all()
            assert len(np.unique(found.round(9), axis=0)) == count


def test_the_spectrum_peaks_at_the_sources():
    line = np.linspace(-np.pi / 2, np.pi / 2, 721)
    spectrum = music_spectrum(true_covariance(LINE, ON_LINE), LINE, 3, line)
    assert (spectrum >= 1 - 1e-12).all()
    peaks = 1 + np.flatnonzero((spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] > spectrum[2:]))
    best = np.sort(line[peaks[np.argsort(-spectrum[peaks])[:3]]])
    np.testing.assert_allclose(best, ON_LINE, atol=np.pi / 720)
    at = music_spectrum(true_covariance(PLANE, ON_PLANE), PLANE, 3, ON_PLANE)
    assert (at > 1e20).all()


def test_the_power_of_a_beam():
    covariance = true_covariance(LINE, ON_LINE[:1])
    assert beam_spectrum(covariance, LINE, ON_LINE[:1])[0] == pytest.approx(10 + 1 / 8)
    assert beam_spectrum(np.eye(30), PLANE, ON_PLANE) == pytest.approx(1 / 30)
    with pytest.raises(TypeError, match="beam_spectrum: array must be"):
        beam_spectrum(covariance, 8, [0.1])
