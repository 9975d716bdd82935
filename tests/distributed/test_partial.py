"""Gradients of shards, added as they come, are the sums of the tree's nodes."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.distributed.partial import Partial
from loopos.distributed.tree import combine, copies_of, roots


def gradients(shards, size=33):
    rng = np.random.default_rng(5)
    return (rng.normal(size=(shards, size)) * 10.0 ** rng.integers(-6, 6, (shards, 1))).astype(np.float32)


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 8])
def test_one_process_has_the_sum_of_the_tree_in_its_buffer(shards):
    given, buffer = gradients(shards), np.zeros(33, np.float32)
    partial = Partial(buffer, shards, range(shards))
    whole = combine(shards, {(i, i + 1): given[i] for i in range(shards)}, np.add)
    for _ in range(2):  # the copies are used again
        partial.begin()
        for shard in range(shards):
            buffer[:] = given[shard]
            partial.add(shard)
        assert [node for node, _ in partial.sums()] == [(0, shards)]
        assert buffer.tobytes() == whole.tobytes()
    in_order = given[0].copy()
    for each in given[1:]:
        in_order += each
    assert shards < 4 or in_order.tobytes() != whole.tobytes()  # the test can tell the orders apart


@pytest.mark.parametrize(("first", "last"), [(0, 2), (2, 5), (5, 8), (3, 4), (1, 8)])
def test_a_run_of_shards_leaves_its_largest_nodes(first, last):
    given, buffer = gradients(8), np.zeros(33, np.float32)
    partial = Partial(buffer, 8, range(first, last))
    partial.begin()
    for shard in range(first, last):
        buffer[:] = given[shard]
        partial.add(shard)
    sums = partial.sums()
    assert [node for node, _ in sums] == roots(8, first, last)
    assert sums[-1][1] is buffer
    for (start, stop), array in sums:
        inner = {(i - start, i - start + 1): given[i] for i in range(start, stop)}
        assert array.tobytes() == combine(stop - start, inner, np.add).tobytes()
    partial.begin()
    assert not any(array is buffer for array in partial._free)  # the next gradient will stand in it


def test_infinite_sums_raise_nothing():
    buffer = np.full(4, 3e38, np.float32)
    partial = Partial(buffer, 2, range(2))
    partial.begin()
    partial.add(0)
    partial.add(1)
    assert np.isinf(buffer).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_what_is_not_finite_is_seen_in_every_sum(bad, where):
    buffer = np.zeros(100, np.float32)
    partial = Partial(buffer, 4, range(1, 4))  # two sums: of shard 1, and of 2 and 3
    for shard in (1, 2, 3):
        buffer[:] = 3e38 / 100  # whose sum is finite; of the two shards it is not, each number is
        buffer[50] = bad if shard == (1, 3)[where] else 0
        partial.add(shard)
    partial.look(0, 40)
    assert not partial.spoiled
    partial.look(40, 100)
    assert partial.spoiled
    partial.begin()
    assert not partial.spoiled


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8, 13])
def test_as_many_copies_are_made_as_are_foretold(shards):
    for first in range(shards):
        for last in range(first + 1, shards + 1):
            partial = Partial(np.zeros(8, np.float32), shards, range(first, last))
            for _ in range(2):
                partial.begin()
                for shard in range(first, last):
                    partial.add(shard)
            copies = [
                *partial._free,
                *partial._to_last,
                *(array for _, array in partial.sums() if array is not partial.buffer),
            ]
            assert len(copies) == copies_of(shards, range(first, last))
