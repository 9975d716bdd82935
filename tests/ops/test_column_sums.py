"""Sums over rows, as the bias gradient of linear shows them: every border of blocks and tiles, no drift, no thread."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops


def column_sums(dy):
    return ops.linear_backward(dy, np.zeros((len(dy), 0), dy.dtype), np.zeros((dy.shape[1], 0), dy.dtype))[2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 511, 512, 513, 1025])
@pytest.mark.parametrize("columns", [1, 3, 4, 16, 31, 64, 65, 127, 128, 129, 300])
def test_whole_numbers_are_exact(rows, columns, dtype):
    dy = np.random.default_rng(rows + columns).integers(-99, 100, (rows, columns)).astype(dtype)
    np.testing.assert_array_equal(column_sums(dy), dy.astype(np.int64).sum(0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, thread_count):
    dy = np.random.default_rng(0).standard_normal((5003, 131)).astype(dtype)
    results = set()
    for threads in (1, 2, 3, 5, 8):
        thread_count(threads)
        results.add(column_sums(dy).tobytes())
    assert len(results) == 1


def test_very_many_rows_are_exact_to_rounding():
    """A million terms of one sign: a float running sum would be off in the third digit."""
    dy = np.full((1_000_001, 2), 0.1, np.float32)
    np.testing.assert_allclose(column_sums(dy), 1_000_001 * float(np.float32(0.1)), rtol=6e-8)
