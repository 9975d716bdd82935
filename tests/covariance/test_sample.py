"""Sample covariances, their conjugation, forward-backward averages and smoothing."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.covariance import ULA, URA, forward_backward, sample_covariance, smoothed

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((2, 7, 3)) + 1j * RNG.standard_normal((2, 7, 3))


def test_the_sample_covariance_is_the_mean_of_outer_products():
    wanted = sum(np.outer(row, row.conj()) for row in ROWS[1]) / 7
    np.testing.assert_allclose(sample_covariance(ROWS)[1], wanted, atol=1e-15)
    np.testing.assert_array_equal(sample_covariance(ROWS), np.swapaxes(sample_covariance(ROWS), 1, 2).conj())
    conjugated = ROWS[1].conj().T @ ROWS[1] / 7  # what a product the wrong way round gives
    np.testing.assert_allclose(conjugated, wanted.conj(), atol=1e-15)


def test_centred_is_as_numpy():
    np.testing.assert_allclose(sample_covariance(ROWS[0], centred=True), np.cov(ROWS[0].T), atol=1e-14)
    np.testing.assert_array_equal(sample_covariance(ROWS[0, :1], centred=True), np.zeros((3, 3)))


def test_types_follow_the_snapshots():
    assert sample_covariance(ROWS.astype(np.complex64)).dtype == np.complex128
    assert sample_covariance(ROWS.real.astype(np.float32)).dtype == np.float64


def test_forward_backward_keeps_a_true_covariance_and_is_its_own_mirror_image():
    steering = ULA(5).steering([0.3, -0.2])
    true = steering @ steering.conj().T
    np.testing.assert_allclose(forward_backward(true), true, atol=1e-14)
    once = forward_backward(sample_covariance(ROWS))
    np.testing.assert_allclose(forward_backward(once), once, atol=1e-15)
    np.testing.assert_allclose(once[:, ::-1, ::-1].conj(), once, atol=1e-15)


@pytest.mark.parametrize(
    ("array", "size", "directions", "subarray"),
    [
        (ULA(8), 6, [0.5, -0.2, 0.1], (6,)),
        (ULA(8), None, [0.5, -0.2, 0.1], (6,)),
        (URA(5, 6), (3, 4), [[0.5, 0.3], [-0.2, 0.1], [0.1, -0.5]], (3, 4)),
        (URA(5, 6), None, [[0.5, 0.3], [-0.2, 0.1], [0.1, -0.5]], (4, 5)),
    ],
)
def test_smoothing_gives_coherent_sources_their_rank_back(array, size, directions, subarray):
    phases = np.exp(1j * np.array([0.3, 1.1, -2.0]))  # with equal phases a pair may hide behind its mirror image
    wave = array.steering(directions) @ phases
    mean, part = smoothed(np.outer(wave, wave.conj()), array, size)
    assert type(part) is type(array)
    assert ((part.sensors,) if isinstance(part, ULA) else (part.rows, part.columns)) == subarray
    assert np.linalg.matrix_rank(mean, tol=1e-9) == 3
    signal, steering = np.linalg.svd(mean)[0][:, :3], part.steering(directions)
    np.testing.assert_allclose(
        signal @ (signal.conj().T @ steering), steering, atol=1e-9
    )  # the steering vectors' space


def test_smoothing_of_a_line_is_the_mean_of_its_windows():
    covariance = sample_covariance(ROWS)
    mean, _ = smoothed(covariance, ULA(3), 2, backward=False)
    np.testing.assert_allclose(mean, (covariance[:, :2, :2] + covariance[:, 1:, 1:]) / 2, atol=1e-15)


NAN = np.where(np.arange(21).reshape(7, 3) == 5, np.nan, 1.0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: sample_covariance(np.zeros(3)), r"snapshots must be numbers \(\.\.\., L, N\), got \(3,\) of float64"),
        (lambda: sample_covariance(np.zeros((0, 3))), r"got \(0, 3\)"),
        (lambda: sample_covariance(NAN), r"must be finite; the first that is not stands at \[1, 2\]"),
        (lambda: smoothed(ROWS[0], ULA(3)), r"smoothed: covariance must be numbers \(\.\.\., N, N\), got \(7, 3\)"),
        (lambda: smoothed(np.eye(4), ULA(3)), r"covariance is of 4 sensors, the array has 3"),
        (lambda: smoothed(np.eye(3), ULA(3), 4), r"size must be an integer from 1 to 3, got 4"),
        (lambda: smoothed(np.eye(4), URA(2, 2), 2), r"size must be \(rows, columns\) of a plane, got 2"),
        (lambda: forward_backward(np.full((2, 2), np.inf)), r"forward_backward: covariance must be finite"),
    ],
)
def test_what_is_no_covariance_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
