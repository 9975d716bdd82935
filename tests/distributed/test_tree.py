"""The tree of shards: every leaf once, the same sums however they are shared out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from loopos.distributed.tree import children, combine, copies_of, left_of, roots, rows_of, run_of


def leaves(node):
    pair = children(node)
    return [node] if pair is None else leaves(pair[0]) + leaves(pair[1])


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 7, 8, 12, 64])
def test_a_tree_has_every_shard_once_in_order(shards):
    assert leaves((0, shards)) == [(i, i + 1) for i in range(shards)]
    assert len(left_of(shards)) == shards - 1


def test_the_left_of_seven_has_four():
    assert children((0, 7)) == ((0, 4), (4, 7))
    assert children((4, 7)) == ((4, 6), (6, 7))
    assert left_of(7)[(6, 7)] == ((4, 6), (4, 7))


@pytest.mark.parametrize("shards", [1, 3, 7, 8, 13])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_what_the_ranks_have_is_the_whole_tree(shards, size):
    rng = np.random.default_rng(shards)
    values = (rng.normal(size=shards) * 10.0 ** rng.integers(-8, 8, shards)).astype(np.float32)
    whole = combine(shards, {(i, i + 1): values[i] for i in range(shards)}, lambda a, b: a + b)
    runs = [run_of(shards, rank, size) for rank in range(size)]
    assert [s for run in runs for s in run] == list(range(shards))
    parts = {}
    for run in runs:
        for node in roots(shards, run.start, run.stop):
            inner = {(i, i + 1): values[i] for i in range(shards)}
            parts[node] = _value(node, inner)
    assert combine(shards, parts, lambda a, b: a + b).tobytes() == whole.tobytes()


def _value(node, parts):
    pair = children(node)
    return parts[node] if pair is None else _value(pair[0], parts) + _value(pair[1], parts)


def test_a_missing_shard_is_an_error():
    with pytest.raises(ValueError, match="nobody has shard 1 of 2"):
        combine(2, {(0, 1): 1.0}, lambda a, b: a + b)


def test_powers_of_two_have_one_root_each():
    for rank in range(4):
        run = run_of(8, rank, 4)
        assert roots(8, run.start, run.stop) == [(run.start, run.stop)]


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 12])
def test_rows_are_all_taken_and_units_stay_together(rows):
    cuts = [rows_of(shard, 8, rows) for shard in range(8)]
    assert cuts[0][0] == 0
    assert cuts[-1][1] == rows
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cuts))
    assert all(first % 2 == last % 2 == 0 for first, last in (rows_of(s, 3, 2 * rows, 2) for s in range(3)))


def test_copies_grow_with_the_logarithm_of_the_shards():
    assert [copies_of(shards, range(shards)) for shards in (1, 2, 4, 8, 16)] == [0, 1, 2, 3, 4]
    assert copies_of(8, run_of(8, 0, 2)) == 2
    assert copies_of(8, run_of(8, 0, 8)) == 0
