"""A rank's side of the watchman."""

from __future__ import annotations

import atexit
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from under_mpi import mpi_needed, result_of

from loopos.distributed import watched
from loopos.distributed.ranks import Ranks
from loopos.errors import RankError


@pytest.fixture
def pair(monkeypatch):
    """Two ranks of one watchman, in this process: what they would do at its end is not done."""
    monkeypatch.setattr(atexit, "register", lambda leave: None)
    monkeypatch.setattr(watched, "TO_RAISE", 60.0)
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
    time.sleep(2 * watched.NEWS)
    second.at(4)
    assert (second.step, second.tick) == (4, 2)
    second._connection.shutdown(2)
    until = time.monotonic() + 20
    while first.over is None and time.monotonic() < until:
        time.sleep(0.01)
    assert "last heard of in update 4) has died" in first.over


def test_the_first_update_is_told_at_once(pair, monkeypatch):
    told = []
    monkeypatch.setattr(pair[0], "_news", lambda: told.append(pair[0].step))
    pair[0]._said = time.monotonic() + 100  # it has just spoken
    pair[0].at(1)
    pair[0].at(2)
    assert told == [1]


def test_a_watchman_that_cannot_be_reached_is_an_error(monkeypatch):
    monkeypatch.setattr(watched, "REACH", 0.2)
    place = {"addresses": ["127.0.0.1"], "port": 1, "key": "x"}
    with pytest.raises(ConnectionError, match="rank 3 on there cannot reach rank 0 at port 1"):
        watched.Watched(place, 3, "there", 1.0)


def both_fail(first, second, kinds):
    """What fail says to each of two ranks that fail in the same moment."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda rank, kind: rank.fail(kind("bad")), (first, second), kinds))


def test_an_error_of_all_that_was_caught_does_not_answer_for_the_next(pair):
    assert both_fail(*pair, [ValueError, ValueError]) == [True, True]
    assert both_fail(*pair, [ValueError, OSError]) == [False, False]


def test_an_error_is_agreed_upon_once():
    class Told:
        def fail(self, error):
            heard.append(error)
            return True

    heard: list[BaseException] = []
    for rank in (0, 1):
        ranks = Ranks.__new__(Ranks)
        ranks.rank, ranks._watched = rank, Told()
        with pytest.raises(SystemExit) as caught, ranks.agreed(), ranks.agreed():
            raise SystemExit(143)
        assert caught.value.told is (rank != 0)
    assert len(heard) == 2


USED = """
from loopos.distributed import Distributed
from loopos.distributed.opening import open_ranks
for seconds in (50, 40):
    ranks = open_ranks(Distributed(timeout=seconds))
tell(ranks._watched._timeout)
"""


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
def test_another_timeout_counts_for_every_rank(tmp_path):
    assert result_of(USED, {}, ranks=2, folder=tmp_path) == [40, 40]
