"""Model.losses: the loss of each position."""

from __future__ import annotations

import numpy as np
import pytest

import loopos


def test_losses_are_those_of_each_position(family, batch):
    model = loopos.Model(family, seed=2)
    ids, targets = batch(family)
    found = model.losses(ids, targets)
    logits = model.forward(ids).astype(np.float64)
    chosen = np.take_along_axis(logits, np.maximum(targets, 0)[..., None], -1)[..., 0]
    expected = np.where(targets >= 0, np.log(np.exp(logits).sum(-1)) - chosen, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float64
    assert found[0, 0] == 0
    assert found.sum() / (targets >= 0).sum() == pytest.approx(model.loss(ids, targets), rel=1e-12)
    assert model.losses(ids[:0], targets[:0]).shape == (0, ids.shape[1])
    with pytest.raises(ValueError, match="targets must have the shape of ids"):
        model.losses(ids, targets[:, 1:])


def test_documents_of_a_row_have_the_losses_of_rows_of_their_own(family, batch):
    model = loopos.Model(family, seed=2, dtype="float64")
    ids, targets = batch(family)
    documents = np.repeat([[0] * 4 + [1] * 5], len(ids), axis=0)
    found = model.losses(ids, targets, documents=documents)
    apart = np.concatenate([model.losses(ids[:, part], targets[:, part]) for part in np.s_[:4, 4:]], axis=1)
    np.testing.assert_allclose(found, apart, rtol=1e-12)
    assert not np.allclose(found[:, 4:], model.losses(ids, targets)[:, 4:])
    assert found.sum() / (targets >= 0).sum() == pytest.approx(model.loss(ids, targets, documents=documents), rel=1e-12)
    with pytest.raises(ValueError, match=r"Model\.losses: documents"):
        model.losses(ids, targets, documents=documents[:, ::-1])
