"""Threads that stand for the processes of a run, as far as reading data asks them."""

from __future__ import annotations

import threading


class Threads:
    """The ranks of a run. ``ticks``: how often they have told that they get on."""

    def __init__(self, rank, size, place, barrier):
        self.rank, self.size, self._place, self._barrier = rank, size, place, barrier
        self.ticks = 0

    def gather(self, thing):
        self._place[self.rank] = thing
        self._barrier.wait(20)
        found = list(self._place)
        self._barrier.wait(20)
        return found

    def same(self, what):
        if len({repr(each) for each in self.gather(what)}) > 1:
            raise ValueError(f"another {next(iter(what))}")

    def at(self, step):
        self.ticks += 1


def in_each(size, work):
    """What ``work(ranks)`` gave, or raised, in each of so many."""
    place, barrier, told = [None] * size, threading.Barrier(size), [None] * size

    def one(rank):
        try:
            told[rank] = work(Threads(rank, size, place, barrier))
        except Exception as error:
            told[rank] = error

    threads = [threading.Thread(target=one, args=(rank,), name=str(rank)) for rank in range(size)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return told
