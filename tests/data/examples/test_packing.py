"""Packing: every example once, no row too full, few rows."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest

from loopos.data.examples.packing import pack


def rows(lengths, room):
    order, starts = pack(np.array(lengths, np.int64), room)
    return [order[a:b].tolist() for a, b in pairwise(starts)]


def by_hand(lengths, room):
    """Best fit, decreasing, by looking at every row."""
    left, held = [], []
    for example in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [r for r in range(len(left)) if left[r] >= lengths[example]]
        if fitting:
            row = min(fitting, key=lambda r: left[r])
        else:
            row = len(left)
            left.append(room)
            held.append([])
        left[row] -= lengths[example]
        held[row].append(example)
    return left


def test_small():
    assert rows([3, 5, 2, 5, 1], 6) == [[1], [3], [0, 2, 4]]
    assert rows([6], 6) == [[0]]
    assert rows([], 6) == []


@pytest.mark.parametrize("seed", range(5))
def test_every_example_once_and_as_full_as_best_fit(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 65, 500).tolist()
    found = rows(lengths, 64)
    assert sorted(chain.from_iterable(found)) == list(range(500))
    assert all(sum(lengths[i] for i in row) <= 64 for row in found)
    assert all(row == sorted(row) for row in found)
    assert sorted(64 - sum(lengths[i] for i in row) for row in found) == sorted(by_hand(lengths, 64))


def test_it_is_the_same_each_time():
    lengths = np.random.default_rng(0).integers(1, 100, 1000)
    first, second = pack(lengths, 128), pack(lengths.copy(), 128)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
