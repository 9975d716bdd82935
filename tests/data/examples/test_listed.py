"""Batches of rows in memory, alone or in pairs."""

import numpy as np

from loopos.data.examples.listed import HeldOutRows, ListedRows

IDS = [np.full(n, n) for n in (3, 5, 4, 6, 2, 7)]
PAIRS = [((ids, ids), (ids + 10, ids + 10)) for ids in IDS]
PLACES = [f"line {i}" for i in range(6)]


def listed(**more):
    return ListedRows(PAIRS, PLACES, **{"seq_len": 16, "batch_size": 2, "seed": 1, "kind": "pairs"} | more)


def test_an_epoch_has_every_group_once_and_pairs_stay_together():
    rows = listed()
    assert rows.steps_per_epoch == 3
    assert rows.seq_len == rows.batch(0)[0].shape[1] == 16
    assert len(rows) == 6
    seen = []
    for step in range(3):
        ids, targets = rows.batch(step)
        assert ids.shape == (4, 16)
        np.testing.assert_array_equal(ids[1::2, 0], ids[0::2, 0] + 10)
        np.testing.assert_array_equal(targets[:, 0], ids[:, 0])
        for row in range(4):
            assert rows.origin(step, 0, row) == PLACES[[3, 5, 4, 6, 2, 7].index(ids[row, 0] % 10)]
        seen += ids[0::2, 0].tolist()
    assert sorted(seen) == [2, 3, 4, 5, 6, 7]
    again = listed().batch(1)
    np.testing.assert_array_equal(again[0], rows.batch(1)[0])
    first, second = listed(grad_accum=2).batch(0, 0), listed(grad_accum=2).batch(0, 1)
    np.testing.assert_array_equal(first[0], rows.batch(0)[0])
    np.testing.assert_array_equal(second[0], rows.batch(1)[0])


def test_fingerprint():
    about = listed().fingerprint()
    assert about["kind"] == "pairs"
    assert about["length"] == 6
    assert about == listed(seed=2, batch_size=3).fingerprint()
    other = ListedRows(PAIRS[:5], PLACES[:5], seq_len=16, batch_size=2, kind="pairs", about={"labels": ["a"]})
    assert other.fingerprint()["sha256"] != about["sha256"]
    assert other.fingerprint()["labels"] == ["a"]


def test_held_out():
    rows = HeldOutRows(PAIRS, seq_len=16, batch_size=4)
    assert len(rows) == 2
    assert rows.share == 1.0
    assert [len(ids) for ids, _ in rows] == [8, 4]
    few = HeldOutRows(PAIRS, seq_len=16, batch_size=4, tokens=20)
    assert len(list(few)) == 1
    assert 0 < few.share < 0.5
