"""One process answers what a run asks its ranks."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.distributed.alone import Alone, tree_sum
from loopos.distributed.partial import Partial


def test_one_process_has_everything():
    alone = Alone()
    assert alone.first
    assert alone.shards(8) == range(8)
    assert alone.gather("a") == ["a"]
    assert alone.share(lambda: 3) == 3
    assert alone.threads(None) is None
    assert alone.total(np.array([1.5])).tolist() == [1.5]
    assert alone.same({"a": 1}) is None
    with alone.agreed():
        pass


def test_the_shards_of_one_process_must_be_whole():
    partial = Partial(np.zeros(3, np.float32), 3, range(1, 3))
    partial.begin()
    partial.add(1)
    partial.add(2)
    with pytest.raises(RuntimeError, match="one tree"):
        Alone().reduce(partial, 3)


def test_numbers_of_shards_are_added_along_the_tree():
    values = [1e16, 1.0, -1e16, 1.0]
    assert tree_sum(4, values) == (1e16 + 1.0) + (-1e16 + 1.0)
    assert tree_sum(1, [0.1]) == 0.1
