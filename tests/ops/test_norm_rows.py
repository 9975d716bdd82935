"""What layer norm and rms norm share: rows whose mean, deviations or rstd a careless formula would lose."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops


def reference(x, w=None, b=None, eps=1e-5):
    x = x.astype(np.float64)
    mean = x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    y = (x - mean) * rstd
    y = y if w is None else y * w
    return y if b is None else y + b, mean[..., 0], rstd[..., 0]


def test_a_large_mean_does_not_drown_the_variance():
    """The one-pass formula gives a negative variance here; and mean / sd = 1e6 leaves a float the last digits of x
    alone."""
    for x in ([1e6, 1e6 + 1, 1e6 + 2], [-11.000001, -11.0, -11.0], [16777216.0, 16777218.0, 16777216.0]):
        x = np.array([x], np.float32)
        np.testing.assert_allclose(ops.layer_norm(x)[0], reference(x)[0], rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_rows_are_right_and_finite(dtype):
    top = dtype(3e38) if dtype == np.float32 else 1e308
    rows = np.array([[1, -1, -1, -1], [1, 1, 1, -1], [0, 0, 0, 1], [1, 0.5, 0.25, -1]], dtype) * top
    y, mean, rstd = ops.layer_norm(rows)
    small = rows / top
    np.testing.assert_allclose(y, reference(small, eps=0)[0], rtol=4e-7)
    np.testing.assert_allclose(mean / top, small.mean(-1), rtol=4e-7)
    dx, *_ = ops.layer_norm_backward(np.array([[1, 2, 3, 4]] * 4, dtype), rows, None, mean, rstd)
    assert np.isfinite(dx).all()
    for scale in (1e-30, 1e-45):
        tiny = np.array([[1, 2, 3, 5]], dtype) * dtype(scale)
        np.testing.assert_allclose(
            ops.layer_norm(tiny, eps=0.0)[0], reference(tiny.astype(np.float64) * 1e30, eps=0)[0], rtol=4e-7
        )
    ones = np.ones((1, 5), dtype)
    assert (ops.layer_norm(ones)[0] == 0).all()
    assert (ops.layer_norm(np.full((1, 5), 1e4, dtype))[0] == 0).all()


@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
def test_the_tail_of_a_row_does_not_count_what_lies_beyond_it(n):
    """With a large mean, lanes beyond the end that hold zero would each add mean^2 to the variance."""
    x = (1000 + np.random.default_rng(n).standard_normal((4, n))).astype(np.float32)
    y, mean, rstd = ops.layer_norm(x)
    for ours, want in zip((y, mean, rstd), reference(x), strict=True):
        np.testing.assert_allclose(ours, want, rtol=4e-7, atol=4e-7)


def test_a_zero_weight_has_a_gradient():
    """xhat is computed from x, never recovered by dividing an output by its weight."""
    x = np.random.default_rng(0).standard_normal((6, 5))
    w = np.array([0.0, 1.0, -0.0, 2.0, 0.0])
    xhat, mean, rstd = ops.layer_norm(x)
    _, dw, _ = ops.layer_norm_backward(np.ones_like(x), x, w, mean, rstd)
    np.testing.assert_allclose(dw, xhat.sum(0), rtol=1e-12, atol=1e-13)


def test_forward_and_backward_take_the_same_mean_at_every_magnitude(measure):
    """A float64 row of fifty times 1.0123e200 once had y = 0 and dx = -inf. Errors are relative to the largest
    value (of dx: to rstd max |dy w|); eight units in the last place are what sums in plain order need."""
    figures = measure("measure_norm_rows.py")
    assert len(figures) == 36
    over = {}
    for name, error in figures.items():
        bound = 8 * (2.0**-23 if name.endswith("float32") else 2.0**-52)
        # The mean of equal numbers is that number, so nothing is left of them.
        if name.startswith("layer_norm") and " equal " in name and " dx " not in name:
            bound = 0
        if not error <= bound:
            over[name] = error
    assert not over
