"""The losses: by definition, zero at the truth, gradients against differences, at equal eigenvalues too."""

from __future__ import annotations

import numpy as np
import pytest
from snapshots import samples

from loopos.covariance.losses import LOSSES, weighted

SOURCES = np.array([1, 2, 3])


def matrices(seed=0, batch=3):
    x = samples(batch, 9, seed=seed)
    return np.einsum("bln,blm->bnm", x, x.conj()) / 9


def directional(loss, s, t, gradient, count=6):
    """The largest relative error of a gradient against differences along Hermitian directions."""
    rng, worst = np.random.default_rng(1), 0.0
    for _ in range(count):
        d = rng.standard_normal(s.shape) + 1j * rng.standard_normal(s.shape)
        d = d + d.conj().swapaxes(1, 2)
        h = 1e-6
        want = (loss(s + h * d, t, SOURCES)[0] - loss(s - h * d, t, SOURCES)[0]) / (2 * h)
        got = (gradient.conj() * d).sum(axis=(1, 2)).real
        worst = max(worst, float(np.max(np.abs(got - want) / np.maximum(1e-2, np.abs(want)))))
    return worst


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_differences_and_a_planted_error_is_found(name):
    s, t = matrices(0), matrices(7)
    value, gradient = LOSSES[name](s, t, SOURCES)
    assert (value > 0.01).all()
    assert directional(LOSSES[name], s, t, gradient) < 1e-6
    assert directional(LOSSES[name], s, t, 1.001 * gradient) > 1e-4
    np.testing.assert_allclose(gradient, gradient.conj().swapaxes(1, 2), atol=1e-13)
    at_truth, flat = LOSSES[name](t, t, SOURCES)
    np.testing.assert_allclose(at_truth, 0, atol=1e-10)
    np.testing.assert_allclose(flat, 0, atol=1e-9)


def test_values_are_those_of_the_definitions():
    s, t = matrices(0), matrices(7)
    norm = lambda r: np.linalg.norm(r, axis=(1, 2))  # noqa: E731
    np.testing.assert_allclose(LOSSES["frobenius"](s, t, SOURCES)[0], norm(s - t) ** 2)
    np.testing.assert_allclose(LOSSES["normalized_frobenius"](s, t, SOURCES)[0], (norm(s - t) / norm(t)) ** 2)
    dets = [np.linalg.slogdet(r)[1] for r in ((s + t) / 2, s, t)]
    np.testing.assert_allclose(LOSSES["stein"](s, t, SOURCES)[0], dets[0] - (dets[1] + dets[2]) / 2)
    logs = np.log(np.linalg.eigvals(np.linalg.solve(t, s)).real)
    np.testing.assert_allclose(LOSSES["affine_invariant"](s, t, SOURCES)[0], (logs**2).sum(axis=1))
    for b, count in enumerate(SOURCES):
        p, q = (v[:, -count:] @ v[:, -count:].conj().T for v in (np.linalg.eigh(r)[1] for r in (s[b], t[b])))
        assert LOSSES["subspace"](s, t, SOURCES)[0][b] == pytest.approx(np.linalg.norm(p - q) ** 2 / 2)


def test_affine_invariant_and_stein_do_not_change_with_the_coordinates():
    s, t = matrices(0), matrices(7)
    a = samples(3, 5, seed=3)
    turned = [a @ r @ a.conj().swapaxes(1, 2) for r in (s, t)]
    for name in ("stein", "affine_invariant"):
        np.testing.assert_allclose(LOSSES[name](*turned, SOURCES)[0], LOSSES[name](s, t, SOURCES)[0], rtol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_eigenvalues_on_each_side_are_no_trouble(name):
    t = matrices(7)
    u = np.linalg.eigh(matrices(3))[1]
    values = np.array([[1, 1, 1, 1, 6], [1, 1, 1, 6, 6], [1, 1, 6, 6, 6.0]])  # of noise all the same, exactly
    s = (u * values[:, None, :]) @ u.conj().swapaxes(1, 2)
    value, gradient = LOSSES[name](s, t, SOURCES)
    assert np.isfinite(value).all()
    assert directional(LOSSES[name], s, t, gradient) < 1e-6


def test_a_subspace_without_a_gap_and_a_matrix_that_is_not_definite_are_refused():
    s = np.stack([np.eye(5)] * 3).astype(complex)
    with pytest.raises(ValueError, match=r"eigenvalues 1 and 2 of estimate 0 are both 1 .*no subspace of 1 directions"):
        LOSSES["subspace"](s, matrices(), SOURCES)
    s[1, 2, 2] = -1
    with pytest.raises(ValueError, match="estimate 1 is not positive definite: its smallest eigenvalue is -"):
        LOSSES["affine_invariant"](s, np.stack([np.eye(5)] * 3) + 0j, SOURCES)
    nothing = LOSSES["subspace"](matrices(), matrices(7), np.array([0, 5, 0]))
    assert not nothing[0].any()
    assert not nothing[1].any()


def test_a_weighted_sum_is_one():
    s, t = matrices(0), matrices(7)
    total, gradient, each = weighted((("stein", 0.5), ("frobenius", 2.0)), s, t, SOURCES)
    one, two = LOSSES["stein"](s, t, SOURCES), LOSSES["frobenius"](s, t, SOURCES)
    np.testing.assert_allclose(total, 0.5 * one[0] + 2 * two[0])
    np.testing.assert_allclose(gradient, 0.5 * one[1] + 2 * two[1])
    assert list(each) == ["stein", "frobenius"]
