"""A rank's side of the watchman."""

from __future__ import annotations

import atexit
import time

import pytest

from loopos.distributed import watched
from loopos.errors import RankError


@pytest.fixture
def pair(monkeypatch):
    """Two ranks of one watchman, in this process: what they would do at its end is not done."""
    monkeypatch.setattr(atexit, "register", lambda leave: None)
    monkeypatch.setattr(watched, "TO_RAISE", 0.0)
    place = watched.start(2, 5.0)
    ranks = [watched.Watched(place, number, "here", 5.0) for number in range(2)]
    yield ranks
    for rank in ranks:
        rank.raised = True
        rank.over = rank.over or "the test is over"
        rank._connection.close()


def test_a_machine_has_addresses():
    assert watched.addresses()[-1].startswith("127.")


def test_the_error_of_one_ends_the_other(pair):
    first, second = pair
    first.check()
    first.waits = True
    assert not second.fail(MemoryError("no room"))
    until = time.monotonic() + 20
    while first.over is None and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(RankError, match=r"rank 1 on here .*: MemoryError: no room"):
        first.check()


def test_news_of_an_update_are_told(pair):
    first, second = pair
    second.at(3)
    time.sleep(0.05)
    second.at(4)
    assert (second.step, second.tick) == (4, 2)
    second._connection.shutdown(2)
    until = time.monotonic() + 20
    while first.over is None and time.monotonic() < until:
        time.sleep(0.01)
    assert "last heard of in update 4) has died" in first.over


def test_a_watchman_that_cannot_be_reached_is_an_error(monkeypatch):
    monkeypatch.setattr(watched, "REACH", 0.2)
    place = {"addresses": ["127.0.0.1"], "port": 1, "key": "x"}
    with pytest.raises(ConnectionError, match="rank 3 on there cannot reach rank 0 at port 1"):
        watched.Watched(place, 3, "there", 1.0)
