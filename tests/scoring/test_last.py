"""Logits behind whole sequences."""

from __future__ import annotations

import numpy as np

import loopos
from loopos.scoring import last
from loopos.scoring.last import last_logits


def test_rows_of_unequal_length_are_each_by_itself(family, monkeypatch):
    monkeypatch.setattr(last, "BATCH_TOKENS", 20)  # several batches of a length
    model, rng = loopos.Model(family, seed=1), np.random.default_rng(0)
    rows = [rng.integers(0, 31, length) for length in (3, 16, 3, 1, 3, 7, 3, 3, 3, 3, 16)]
    columns = np.array([5, 0, 30])
    expected = [model.forward(row[None])[0, -1, columns] for row in rows]
    np.testing.assert_allclose(last_logits(model, rows, columns), expected, rtol=2e-5, atol=1e-6)
    assert last_logits(model, [], columns).shape == (0, 3)
