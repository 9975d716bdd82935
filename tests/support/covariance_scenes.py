"""Scenes that the estimators of direction share: arrays, directions, covariances, and many noisy trials of one."""

from __future__ import annotations

import numpy as np

from loopos.covariance import ULA, URA, sample_covariance

LINE, PLANE = ULA(8), URA(5, 6)
ON_LINE = np.array([-0.5, 0.1, 0.3])
ON_PLANE = np.array([[-0.5, 0.2], [0.1, -0.4], [0.3, 0.3]])
SCENES = {"line": (LINE, ON_LINE), "plane": (PLANE, ON_PLANE)}


def true_covariance(array, directions, power=10.0):
    steering = array.steering(directions)
    return power * steering @ steering.conj().T + np.eye(array.sensors)


def trials(array, directions, snr, snapshots, count, seed=0):
    """Sample covariances (count, N, N) of independent Gaussian sources at fixed directions."""
    rng = np.random.default_rng(seed)

    def circular(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)

    steering = array.steering(directions) * 10 ** (snr / 20)
    signals = circular(count, snapshots, len(directions)) @ steering.T
    return sample_covariance(signals + circular(count, snapshots, array.sensors))
