"""loopos/serve/jobs.py: one at a time, in order, stopped when asked."""

import asyncio
import threading

import pytest

from loopos.serve.errors import Refused
from loopos.serve.jobs import Jobs


@pytest.fixture
def jobs():
    made = Jobs(waiting=2)
    yield made
    made.close()


async def collected(job):
    return [piece async for piece in job.pieces()]


def count(n):
    return lambda stop: iter(range(n))


def test_pieces_come_in_order(jobs):
    async def go():
        made = [jobs.submit(count(n), 10) for n in (3, 0, 2)]
        return [await collected(job) for job in made]

    assert asyncio.run(go()) == [[0, 1, 2], [], [0, 1]]


def test_the_queue_has_an_end(jobs):
    gate = threading.Event()

    def work(stop):
        gate.wait(10)
        yield 1

    async def go():
        made = [jobs.submit(work, 10) for _ in range(3)]
        with pytest.raises(Refused, match="2 requests are waiting") as told:
            jobs.submit(work, 10)
        assert told.value.status == 429
        gate.set()
        assert [await collected(job) for job in made] == [[1]] * 3
        assert await collected(jobs.submit(work, 10)) == [1]

    asyncio.run(go())


def test_a_cancelled_job_ends_also_before_it_began(jobs):
    begun = []

    def work(stop):
        begun.append(1)
        while not stop():
            yield 1

    async def go():
        first, second = jobs.submit(work, 10), jobs.submit(work, 10)
        second.cancel()
        pieces = first.pieces()
        await anext(pieces)
        await pieces.aclose()
        assert first.cancelled  # and does not go on until its time is up
        assert await collected(second) == []

    asyncio.run(go())
    assert begun == [1]


def test_time_is_up(jobs):
    def work(stop):
        while not stop():
            yield 1

    async def go():
        with pytest.raises(Refused, match=r"0\.05 s"):
            await collected(jobs.submit(work, 0.05))

    asyncio.run(go())


def test_errors_reach_who_waits_and_nobody_else(jobs):
    def work(stop):
        yield 1
        raise ValueError("wrong")

    async def go():
        with pytest.raises(ValueError, match="wrong"):
            await collected(jobs.submit(work, 10))
        assert await collected(jobs.submit(count(1), 10)) == [0]

    asyncio.run(go())


def test_nothing_is_taken_after_the_end():
    jobs = Jobs(waiting=1)
    jobs.close()

    async def go():
        with pytest.raises(Refused, match="stopping"):
            jobs.submit(count(1), 1)

    asyncio.run(go())
