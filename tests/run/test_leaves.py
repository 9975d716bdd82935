"""The passes of an update, shard by shard."""

from __future__ import annotations

import numpy as np

from loopos.run.leaves import leaves_of, micro_batches, valid_of
from loopos.run.objectives import CrossEntropy
from loopos.training import default_settings


def batch(rows):
    ids = np.arange(rows * 4).reshape(rows, 4)
    return ids, ids + 1


def test_one_shard_is_the_whole_batch():
    settings = default_settings(grad_accum=2)
    calls, valid = micro_batches([batch(3), batch(3)], 5, settings)
    assert valid == 24
    assert [call[0].shape for call in calls] == [(3, 4), (3, 4)]
    assert [call[2]["micro"] for call in calls] == [0, 1]
    assert all("first_row" not in call[2] and call[2]["scale"] == 1 / 24 for call in calls)


def test_shards_take_their_rows_of_each_micro_batch():
    settings = default_settings(shards=3)
    batches = [batch(7), batch(7)]
    leaves = leaves_of(batches, 0, settings, CrossEntropy(settings), 56, range(3))
    assert [leaf.shard for leaf in leaves] == [0, 1, 2]
    assert [[len(call[0]) for call in leaf.calls] for leaf in leaves] == [[2, 2], [2, 2], [3, 3]]
    assert [[call[2].get("first_row", 0) for call in leaf.calls] for leaf in leaves] == [[0, 0], [2, 2], [4, 4]]
    assert np.array_equal(np.concatenate([leaf.calls[1][0] for leaf in leaves]), batches[1][0])


def test_what_has_no_target_is_left_out():
    settings = default_settings(shards=2)
    ids, targets = batch(4)
    targets = np.where(np.arange(4)[:, None] < 2, -100, targets)
    leaves = leaves_of([(ids, targets)], 0, settings, CrossEntropy(settings), 8, range(2))
    assert [len(leaf.calls) for leaf in leaves] == [0, 1]
    assert valid_of((ids, targets)) == 8


def test_a_part_of_the_rows_gives_the_same_passes():
    settings = default_settings(shards=3)
    whole = batch(7)
    part = tuple(each[2:] for each in whole)
    objective = CrossEntropy(settings)
    of_whole = leaves_of([whole], 0, settings, objective, 28, range(1, 3))
    of_part = leaves_of([part], 0, settings, objective, 28, range(1, 3), rows=(7, 2))
    for one, other in zip(of_whole, of_part, strict=True):
        assert one.shard == other.shard
        for (ids, targets, keywords), again in zip(one.calls, other.calls, strict=True):
            assert np.array_equal(ids, again[0])
            assert np.array_equal(targets, again[1])
            assert keywords == again[2]
