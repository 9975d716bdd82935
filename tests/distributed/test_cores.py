"""Cores of a machine shared out between its ranks."""

from __future__ import annotations

import os

from loopos.distributed.cores import named, shared_out, usable

ALL = frozenset(range(8))


def test_ranks_that_may_be_anywhere_share_the_cores():
    assert [shared_out([(ALL, 8)] * 2, me) for me in range(2)] == [4, 4]
    assert [shared_out([(ALL, 8)] * 3, me) for me in range(3)] == [3, 3, 2]
    assert [shared_out([(frozenset({0, 1}), 2)] * 4, me) for me in range(4)] == [1, 1, 1, 1]


def test_ranks_with_cores_of_their_own_keep_them():
    apart = [(frozenset({0, 1}), 2), (frozenset({2, 3, 4}), 3)]
    assert [shared_out(apart, me) for me in range(2)] == [2, 3]


def test_a_quota_counts():
    assert shared_out([(ALL, 4)] * 2, 0) == 2


def test_of_this_process(monkeypatch):
    cores, threads = usable()
    assert cores == frozenset(os.sched_getaffinity(0))
    assert threads >= 1
    for name in ("LOOPOS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert not named()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert named()
