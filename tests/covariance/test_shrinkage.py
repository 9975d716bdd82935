"""Shrinkage: the complex constants by Monte Carlo, the real ones by the paper's formulas and by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.covariance import ULA, ledoit_wolf, oas, oracle_weight, rblw, sample_covariance

COUNT = 8000


def gaussian(covariance, snapshots, count, seed=0):
    """Zero-mean rows (count, L, N), circular complex for a complex covariance, real for a real one."""
    rng, root = np.random.default_rng(seed), np.linalg.cholesky(covariance)
    shape = (count, snapshots, len(covariance))
    rows = rng.standard_normal(shape)
    if covariance.dtype.kind == "c":
        rows = (rows + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return rows @ root.T


def scene(kind, sensors=6):
    steering = ULA(sensors).steering([-0.4, 0.5])
    covariance = 2 * steering @ steering.conj().T + np.eye(sensors)
    return covariance if kind == "complex" else np.ascontiguousarray(covariance.real)


def squared_error(estimate, true):
    return np.square(np.abs(estimate - true)).sum((-2, -1))


@pytest.mark.parametrize("snapshots", [1, 4, 20])
@pytest.mark.parametrize("kind", ["complex", "real"])
def test_the_oracle_has_the_least_expected_error(kind, snapshots):
    """The sample mean of the two expectations whose ratio is the best weight. Their quotient has a relative deviation
    of about 1 / sqrt(COUNT); the other kind's constants are further off than that by far."""
    true = scene(kind)
    samples = sample_covariance(gaussian(true, snapshots, COUNT))
    target = np.trace(samples, axis1=1, axis2=2).real[:, None, None] / 6 * np.eye(6)
    above = np.einsum("bij,bji->b", true - samples, target - samples).real
    below = squared_error(samples, target)
    best = above.mean() / below.mean()
    deviation = np.std(above - best * below) / below.mean() / np.sqrt(COUNT)
    assert abs(oracle_weight(true, snapshots) - best) < 4 * deviation
    squared, trace = np.trace(true @ true).real, np.trace(true).real
    a, b = (-1 / 6, snapshots - 1 / 6) if kind == "real" else (1 - 2 / 6, snapshots + 1 - 2 / 6)
    other = (a * squared + trace**2) / (b * squared + (1 - snapshots / 6) * trace**2)
    assert snapshots == 20 or abs(other - best) > 4 * deviation


@pytest.mark.parametrize("kind", ["complex", "real"])
def test_moments_of_the_sample_covariance(kind):
    """E tr S^2 and E tr^2 S, from which all constants follow."""
    true, n, b = scene(kind), 5, 1 if kind == "complex" else 2
    samples = sample_covariance(gaussian(true, n, COUNT))
    squared, trace = np.trace(true @ true).real, np.trace(true).real
    found = np.square(np.abs(samples)).sum((1, 2)), np.square(np.trace(samples, axis1=1, axis2=2).real)
    wanted = squared * (1 + (b - 1) / n) + trace**2 / n, trace**2 + b * squared / n
    for values, mean in zip(found, wanted, strict=True):
        assert abs(values.mean() - mean) < 4 * values.std() / np.sqrt(COUNT)


@pytest.mark.parametrize("kind", ["complex", "real"])
def test_rblw_is_the_mean_of_ledoit_wolf_given_the_sample_covariance(kind):
    """Snapshots with one and the same S: S^(1/2) times rows of random isometries."""
    true, n = 4 * scene(kind) - 3 * np.eye(6), 12
    sample = sample_covariance(gaussian(true, n, 1))[0]
    root = np.linalg.cholesky(sample)
    isometries, corner = np.linalg.qr(gaussian(np.eye(6, dtype=true.dtype), n, COUNT, seed=1))
    diagonal = np.diagonal(corner, axis1=1, axis2=2)
    isometries = isometries * (diagonal / np.abs(diagonal))[:, None]  # QR with a positive diagonal: evenly distributed
    rows = np.sqrt(n) * isometries @ root.T
    np.testing.assert_allclose(sample_covariance(rows[:3]), np.broadcast_to(sample, (3, 6, 6)), atol=1e-12)
    weights = ledoit_wolf(rows).weight
    assert weights.max() < 1  # none is cut off
    assert abs(weights.mean() - rblw(sample, n).weight) < 4 * weights.std() / np.sqrt(COUNT)


@pytest.mark.parametrize("kind", ["complex", "real"])
def test_oas_is_where_its_iteration_ends(kind):
    (rows,) = gaussian(scene(kind), 5, 1)
    sample = sample_covariance(rows)
    n, p = 5, 6
    a, b = (-1 / p, n - 1 / p) if kind == "complex" else (1 - 2 / p, n + 1 - 2 / p)
    trace, weight = np.trace(sample).real, 0.5
    for _ in range(5000):
        estimate = (1 - weight) * sample + weight * trace / p * np.eye(p)
        both = np.trace(estimate @ sample).real
        weight = (a * both + trace**2) / (b * both + (1 - n / p) * trace**2)
    assert oas(sample, n).weight == pytest.approx(weight, abs=1e-9)


def test_real_constants_as_chen_and_others_have_them():
    """Equations 17 and 23 of Chen, Wiesel, Eldar, Hero 2010."""
    (rows,) = gaussian(scene("real"), 7, 1)
    S, n, p = sample_covariance(rows), 7, 6
    squared, trace = np.trace(S @ S), np.trace(S)
    down = squared - trace**2 / p
    assert rblw(S, n).weight == pytest.approx(((n - 2) / n * squared + trace**2) / ((n + 2) * down))
    assert oas(S, n).weight == pytest.approx(((1 - 2 / p) * squared + trace**2) / ((n + 1 - 2 / p) * down))


@pytest.mark.reference
def test_scikit_learn_agrees_on_real_data():
    covariance = pytest.importorskip("sklearn.covariance")
    (rows,) = gaussian(scene("real"), 12, 1)
    theirs, weight = covariance.ledoit_wolf(rows, assume_centered=True)
    np.testing.assert_allclose(ledoit_wolf(rows).covariance, theirs, rtol=1e-12)
    assert ledoit_wolf(rows).weight == pytest.approx(weight, rel=1e-12)
    n, p = rows.shape  # it leaves 2/p out: the quotient of the formulas with and without
    S = sample_covariance(rows)
    squared, trace = np.trace(S @ S), np.trace(S)
    factor = (squared + trace**2) / (n + 1) / (((1 - 2 / p) * squared + trace**2) / (n + 1 - 2 / p))
    assert oas(S, n).weight * factor == pytest.approx(covariance.oas(rows, assume_centered=True)[1], rel=1e-12)


def test_who_is_nearer_to_the_truth_at_few_snapshots():
    """For Gaussian data RBLW beats Ledoit-Wolf, both and OAS beat S by far, and none beats the oracle."""
    true, n = scene("complex", 12), 6
    rows = gaussian(true, n, 1500)
    samples = sample_covariance(rows)
    weight = oracle_weight(true, n)
    mean = np.trace(samples, axis1=1, axis2=2).real[:, None, None] / 12 * np.eye(12)
    estimates = [(1 - weight) * samples + weight * mean, rblw(samples, n).covariance, ledoit_wolf(rows).covariance]
    estimates += [samples, oas(samples, n).covariance]
    oracle, rao_blackwell, plain, none, approximating = (squared_error(each, true).mean() for each in estimates)
    assert oracle < rao_blackwell < plain < 0.8 * none
    assert oracle < approximating < 0.8 * none


def test_shapes_weights_and_what_stays():
    true = scene("complex")
    samples = sample_covariance(gaussian(true, 3, 5)).reshape(5, 1, 6, 6)
    for found in (oas(samples, 3), rblw(samples, 3), ledoit_wolf(gaussian(true, 3, 5).reshape(5, 1, 3, 6))):
        assert found.covariance.shape == (5, 1, 6, 6)
        assert found.weight.shape == (5, 1)
        assert ((found.weight >= 0) & (found.weight <= 1)).all()
        np.testing.assert_allclose(
            np.trace(found.covariance, axis1=-2, axis2=-1), np.trace(samples, axis1=-2, axis2=-1)
        )
        assert np.linalg.eigvalsh(found.covariance).min() > 0  # of 3 snapshots of 6 sensors
    np.testing.assert_array_equal(oas(np.eye(4), 9).covariance, np.eye(4))
    np.testing.assert_array_equal(oas(np.zeros((4, 4)), 9).covariance, np.zeros((4, 4)))


@pytest.mark.parametrize("estimator", [oas, rblw, oracle_weight])
def test_bad_arguments_are_refused(estimator):
    with pytest.raises(ValueError, match=f"{estimator.__name__}: covariance must be numbers"):
        estimator(np.zeros((3, 4)), 5)
    with pytest.raises(ValueError, match=f"{estimator.__name__}: snapshots must be an integer of at least 1"):
        estimator(np.eye(3), 0)
