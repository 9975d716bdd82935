"""Memory of a pass, asked for before it is taken."""

from __future__ import annotations

import numpy as np
import pytest

import loopos

CONFIG = loopos.ModelConfig(500, 64, 3, 4, 64)


def test_asking_takes_nothing_and_changes_nothing(batch):
    model = loopos.Model(CONFIG)
    ids, targets = batch(CONFIG, rows=2, time=20)
    loss, grads = model.loss_and_grads(ids, targets)
    small, large = (model._core.workspace_bytes(rows, 20, True) for rows in (2, 200))
    assert large > 20 * small
    assert model._core.workspace_bytes(2, 20, False) < small
    again, same = model.loss_and_grads(ids, targets)
    assert again == loss
    assert all(np.array_equal(grads[name], same[name]) for name in grads)


def test_frozen_blocks_need_less():
    model = loopos.Model(CONFIG)
    before = model._core.workspace_bytes(8, 64, True)
    model.freeze("tok_embed.*")
    model.freeze("blocks.0.*")
    model.freeze("blocks.1.*")
    assert model._core.workspace_bytes(8, 64, True) <= before


def test_what_cannot_be_a_batch_is_refused():
    with pytest.raises(ValueError, match="do not fit the context length 64"):
        loopos.Model(CONFIG)._core.workspace_bytes(1, 65, True)
