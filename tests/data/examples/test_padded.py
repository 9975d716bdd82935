"""Rows of unequal length as one batch."""

import numpy as np

from loopos.data.batches import IGNORE
from loopos.data.examples.padded import padded


def test_rows_are_filled_up_on_the_right():
    rows = [(np.arange(1, 4), np.array([-100, 5, 6])), (np.arange(7, 12), np.full(5, 9))]
    ids, targets = padded(rows, 64)
    assert ids.shape == targets.shape == (2, 32)
    assert ids.dtype == targets.dtype == np.int64
    np.testing.assert_array_equal(ids[0, :3], [1, 2, 3])
    np.testing.assert_array_equal(targets[0, :3], [-100, 5, 6])
    assert (targets[0, 3:] == IGNORE).all()
    assert (targets[1, :5] == 9).all()
    assert padded(rows, 6)[0].shape == (2, 6)  # no wider than the model's context
