"""The number of sources: found where it can be, and said where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from covariance_scenes import LINE, ON_LINE, trials, true_covariance

from loopos.covariance import ULA, count_sources, forward_backward, oas

GONE = np.zeros(0)


@pytest.mark.parametrize("criterion", ["mdl", "aic", "random_matrix"])
@pytest.mark.parametrize("sources", [0, 1, 3, 6])
def test_a_true_covariance_tells_its_number(sources, criterion):
    directions = np.arcsin(np.linspace(-0.9, 0.8, sources)) if sources else GONE
    covariance = true_covariance(LINE, directions, 100.0) if sources else np.eye(8)
    assert count_sources(covariance, 10_000, criterion) == sources


def test_mdl_is_right_above_the_threshold_and_aic_at_times_takes_too_many():
    covariances = trials(LINE, ON_LINE[[0, 2]], 5, 100, 300)
    mdl = np.array([count_sources(each, 100) for each in covariances])
    aic = np.array([count_sources(each, 100, "aic") for each in covariances])
    assert np.mean(mdl == 2) > 0.98
    assert 0.02 < np.mean(aic > 2) < 0.3
    assert (aic >= 2).all()


def by_formula(covariance, length, criterion):
    """Wax and Kailath 1985, equations 12 and 17; Nadakuditi and Edelman 2008, equations 18 and 19."""
    values, scores = np.sort(np.linalg.eigvalsh(covariance))[::-1], []
    p, complex_data = len(values), np.iscomplexobj(covariance)
    for k in range(min(p, length) if criterion == "random_matrix" else p):
        rest = values[k:]
        if criterion == "random_matrix":
            beta = 2 if complex_data else 1
            t = ((p - k) * np.sum(rest**2) / np.sum(rest) ** 2 - (1 + p / length)) * p - (2 / beta - 1) * p / length
            scores.append(beta / 4 * (length / p) ** 2 * t**2 + 2 * (k + 1))
            continue
        ratio = np.prod(rest) ** (1 / (p - k)) / np.mean(rest)
        free = k * (2 * p - k) if complex_data else k * (2 * p - k + 1) / 2
        penalty = 0.5 * free * np.log(length) if criterion == "mdl" else free
        scores.append(-length * (p - k) * np.log(ratio) + penalty)
    return int(np.argmin(scores))


@pytest.mark.parametrize("criterion", ["mdl", "aic", "random_matrix"])
@pytest.mark.parametrize("data", ["complex", "real"])
def test_the_formulas_around_the_threshold(criterion, data):
    found = []
    for snr in (-10, -7, -4, -1):
        for each in trials(LINE, ON_LINE, snr, 40, 20):
            covariance = each if data == "complex" else each.real
            found.append(count_sources(covariance, 40, criterion))
            assert found[-1] == by_formula(covariance, 40, criterion)
    assert len(set(found)) > 2


def test_fewer_snapshots_than_sensors():
    array = ULA(40)
    covariances = trials(array, np.array([-0.4, 0.1, 0.6]), 5, 20, 50)
    with pytest.raises(ValueError, match=r"'mdl' takes the logarithm of every eigenvalue.*20 snapshots of 40 sensors"):
        count_sources(covariances[0], 20)
    found = np.array([count_sources(each, 20, "random_matrix") for each in covariances])
    assert np.mean(found == 3) > 0.8  # its penalty is AIC's
    assert found.min() == 3
    assert 0 <= count_sources(oas(covariances[0], 20).covariance, 20) < 40


def test_coherent_sources_count_as_one():
    wave = LINE.steering(ON_LINE[:2]) @ np.array([10.0, 10.0j])
    covariance = np.outer(wave, wave.conj()) + np.eye(8)
    assert count_sources(covariance, 1000) == 1
    assert count_sources(forward_backward(covariance), 1000) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((np.eye(4), 0), "snapshots must be an integer of at least 1, got 0"),
        ((np.eye(4), 10, "bic"), "criterion must be one of 'mdl', 'aic', 'random_matrix'"),
        ((np.ones((2, 4, 4)), 10), r"one covariance \(N, N\) at a time"),
        ((-np.eye(4), 10), "the smallest of the 4 is -1"),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=f"count_sources: .*{sentence}"):
        count_sources(*arguments)
