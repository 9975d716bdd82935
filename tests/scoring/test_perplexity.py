"""The loss of each window."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.data.held_out import HeldOut
from loopos.run.updates import evaluate
from loopos.scoring.perplexity import window_losses


def test_windows_add_up_to_the_loss_of_all():
    model = loopos.Model(loopos.ModelConfig(31, 16, 1, 2, 16))
    ids = np.random.default_rng(0).integers(0, 31, 100)
    batches = HeldOut(ids, seq_len=16, batch_size=3, vocab_size=31)
    found = window_losses(model, batches)
    loss, count = evaluate(model, batches)
    assert found.loss == pytest.approx(loss, rel=1e-6)
    assert found.tokens == count == 99
    assert found.counts.tolist() == [16] * 6 + [3]
    alone = model.loss(ids[None, 96:99], ids[None, 97:100])
    assert found.sums[-1] / 3 == pytest.approx(alone, rel=1e-5)
