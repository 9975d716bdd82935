"""kl beside what test_row_losses.py has of every loss: sure, masked and nearly equal distributions."""

from __future__ import annotations

import numpy as np
import pytest
from loss_references import pair

import loopos
from loopos import losses


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes(dtype):
    for size in (1e4, 3e38):  # distributions that are sure, of the same entry and of another
        size = float(dtype(size))
        x = np.full((2, 37), -size, dtype)
        x[:, 3] = size
        assert losses.kl(x, x)[0] == 0.0
        y = x[:, ::-1].copy()
        loss, gradient = losses.kl(x, y)
        assert loss == 2 * size
        np.testing.assert_array_equal(gradient[0], (np.eye(37)[3] - np.eye(37)[33]) / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kl_near_the_teacher_is_never_negative(dtype):
    for seed in range(20):
        s = pair(1, 300, seed=seed)[0].astype(dtype)
        near = np.nextafter(s, dtype(9))
        assert losses.kl(s, near)[0] >= 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masked_logits(dtype):
    s, t = pair(3, 9).astype(dtype)
    s[:, 4] = t[:, 4] = -np.inf
    want, gradient = losses.kl(np.delete(s, 4, 1), np.delete(t, 4, 1))
    got = losses.kl(s, t)
    np.testing.assert_allclose(got[0], want, rtol=1e-6 if dtype == np.float32 else 1e-13)
    np.testing.assert_array_equal(got[1][:, 4], 0)
    np.testing.assert_allclose(np.delete(got[1], 4, 1), gradient, atol=1e-7 if dtype == np.float32 else 1e-15)
    t[0, 2] = -np.inf  # the teacher's alone
    assert np.isfinite(losses.kl(s, t)[0])
    s[1, 2] = -np.inf  # the student's alone
    assert losses.kl(s, t)[0] == np.inf
    loopos.reset_guard_counts()
    s[1] = -np.inf
    loss, gradient = losses.kl(s, t)
    assert np.isnan(loss)
    assert np.isnan(gradient[1]).all()
    assert np.isfinite(gradient[[0, 2]]).all()
    assert loopos.guard_counts()["kl"] == 1


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_temperature_is_above_zero(bad):
    s, t = pair(3, 4)
    with pytest.raises(ValueError, match="kl: temperature must be a finite number above 0, got"):
        losses.kl(s, t, temperature=bad)
