"""The cores of a machine, shared out between the ranks on it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from loopos import _core

NAMED = ("LOOPOS_NUM_THREADS", "OMP_NUM_THREADS")  # somebody has said how many


def usable() -> tuple[frozenset[int], int]:
    """The cores that this process may be on, and how many threads it would compute with alone."""
    return frozenset(os.sched_getaffinity(0)), _core.get_num_threads()


def shared_out(neighbours: Sequence[tuple[frozenset[int], int]], me: int) -> int:
    """How many threads the process number ``me`` of one machine takes: its own cores, or its share of those that
    others may be on too. neighbours: of each process on it, what :func:`usable` gave there."""
    cores, most = neighbours[me]
    sharing = [i for i, (theirs, _) in enumerate(neighbours) if theirs & cores]
    count, rest = divmod(min(len(cores), most), len(sharing))
    return max(1, count + (sharing.index(me) < rest))


def named() -> bool:
    """Whether the environment says how many threads to take."""
    return any(os.environ.get(name) for name in NAMED)
