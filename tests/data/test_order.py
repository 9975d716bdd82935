"""The order of an epoch."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.data.order import Order, permutation


def test_permutation_is_pure_and_its_bits_are_kept():
    assert permutation(8, 1337, 0).tolist() == permutation(8, 1337, 0).tolist()
    assert sorted(permutation(8, 1337, 1)) == list(range(8))
    assert permutation(8, 1337, 0).tolist() != permutation(8, 1337, 1).tolist()
    assert permutation(8, 1337, 0).tolist() != permutation(8, 1338, 0).tolist()


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_batches_are_the_epochs_laid_end_to_end(size):
    order = Order(7, 5)
    whole = np.concatenate([permutation(7, 5, epoch) for epoch in range(20)])
    for number in (4, 0, 2):
        assert order.batch(number, size).tolist() == whole[number * size : (number + 1) * size].tolist()
