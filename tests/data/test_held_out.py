"""loopos/data/held_out.py: what is scored, all of it once or a fixed choice of windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopos.data import HeldOut, check_batch
from loopos.data.held_out import spread


@given(n=st.integers(2, 90), seq_len=st.integers(1, 12), batch_size=st.integers(1, 9))
def test_evaluation_predicts_every_token_once(n, seq_len, batch_size):
    held_out = HeldOut(np.arange(n), seq_len=seq_len, batch_size=batch_size, vocab_size=n)
    batches = list(held_out)
    assert len(batches) == len(held_out)
    read, predicted = [], []
    for ids, targets in batches:
        check_batch(ids, targets, n, seq_len)
        assert ids.shape[1] == seq_len
        assert ids.shape[0] == batch_size or ids is batches[-1][0]
        scored = targets != -100
        read += ids[scored].tolist()
        predicted += targets[scored].tolist()
        assert (np.diff(scored.astype(int), axis=1) <= 0).all()  # the filling comes last in its row
    assert read == list(range(n - 1))
    assert predicted == list(range(1, n))
    assert [b[0].tolist() for b in held_out] == [b[0].tolist() for b in batches]  # it can be read again


def test_evaluation_needs_two_tokens():
    for n in (0, 1):
        with pytest.raises(ValueError, match=f"eval_data: {n} tokens are too few, evaluation needs at least 2"):
            HeldOut(np.zeros(n, np.int64), seq_len=4, batch_size=1, vocab_size=5)


def test_the_choice_does_not_depend_on_the_batch():
    ids = np.random.default_rng(3).integers(0, 16, 999)
    shape = {"seq_len": 8, "vocab_size": 16, "tokens": 160}
    rows = [np.concatenate([batch for batch, _ in HeldOut(ids, batch_size=n, **shape)]) for n in (1, 3, 64)]
    assert len(rows[0]) == 20
    assert all(np.array_equal(rows[0], other) for other in rows)


@given(count=st.integers(1, 99), chosen=st.integers(1, 120))
def test_what_is_chosen_is_spread_evenly(count, chosen):
    found = list(spread(count, chosen))
    assert len(found) == min(count, chosen)
    assert found[0] == 0
    assert found[-1] < count
    gaps = set(np.diff([*found, count]).tolist())
    assert max(gaps) - min(gaps) <= 1
