"""patches: formula, differences, extremes, threads, refusals. No number is changed, so float32 and float64 agree."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops


def reference(images, p, lead):
    b, h, w, c = images.shape
    rows = images.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h * w // p**2, p * p * c)
    return np.concatenate([np.zeros((b, lead, p * p * c), images.dtype), rows], axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "p"), [((2, 6, 9, 3), 3), ((1, 5, 5, 1), 5), ((3, 4, 2, 2), 1), ((0, 4, 4, 3), 2)])
@pytest.mark.parametrize("lead", [0, 1])
def test_forward_cuts_and_backward_puts_together(shape, p, lead, dtype):
    images = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    y = ops.patches(images, p, lead=lead)
    np.testing.assert_array_equal(y, reference(images, p, lead))
    np.testing.assert_array_equal(ops.patches_backward(y, shape[1:], p, lead=lead), images)


def test_backward_is_the_derivative(check_gradient):
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 3))
    check_gradient(lambda v: ops.patches(v, 2, lead=1), lambda dy, v: ops.patches_backward(dy, (4, 6, 3), 2, lead=1), x)


def test_extremes_go_through():
    x = np.array([np.nan, np.inf, -3e38, 0], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(ops.patches(x, 1).ravel(), x.ravel())
    np.testing.assert_array_equal(ops.patches_backward(ops.patches(x, 2), (2, 2, 1), 2), x)


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    x = np.random.default_rng(0).standard_normal((9, 64, 96, 3), np.float32)
    check_threads(lambda: (ops.patches(x, 8), ops.patches_backward(ops.patches(x, 8), x.shape[1:], 8)))


def test_refusals():
    x = np.zeros((1, 4, 6, 3), np.float32)
    with pytest.raises(ValueError, match="multiples of patch_size, got 4"):
        ops.patches(x, 4)
    with pytest.raises(ValueError, match="multiples of patch_size, got 0"):
        ops.patches(x, 0)
    with pytest.raises(ValueError, match="lead must be from 0"):
        ops.patches(x, 2, lead=-1)
    with pytest.raises(ValueError, match=r"dy must have shape \(B, 6, 12\), got \(1, 6, 11\)"):
        ops.patches_backward(np.zeros((1, 6, 11)), (4, 6, 3), 2)
    with pytest.raises(TypeError, match="float32 or float64"):
        ops.patches(np.zeros((1, 4, 6, 3), np.uint8), 2)
