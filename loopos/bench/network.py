"""What carries gradients between ranks: messages and sums, between the processes of this machine and between hosts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from .namespaces import Hosts
from .process import PeerError
from .step_time import Link, fit_link
from .team import Team

SIZES = (8, 1 << 10, 1 << 16, 1 << 20, 1 << 22, 1 << 24, 1 << 26)  # bytes of messages and of vectors
LARGEST_SLOW = 1 << 24  # over a link that was slowed
COUNT, SMALL_COUNT = 5, 50
SMALL = 1 << 16


def counted(size: int) -> int:
    return SMALL_COUNT if size <= SMALL else COUNT


def measure(cores: Sequence[list[int]], hosts: Hosts | None = None) -> dict[str, Any]:
    """Medians of seconds between two ranks, [bytes, seconds] each: of a message by MPI, of a sum of float32 vectors by
    MPI and by gloo; ``adding``, ``rounding``, ``reading``: of adding one byte of a vector to another, of rounding one
    to bfloat16, and of reading it again, both ranks at once; ``link``: the latency
    and bandwidth of the messages. A library that is not there is in ``absent``."""
    sizes = [size for size in SIZES if hosts is None or size <= LARGEST_SLOW]
    found: dict[str, Any] = {"absent": []}
    for name, what in (("mpi", ("messages", "sums")), ("gloo", ("sums",))):
        try:
            with Team(name, 2, 1, list(cores), hosts) as team:
                found[name] = {"engine": team.engine} | {each: _times(team, each, sizes) for each in what}
                if name == "mpi":
                    for each in ("adding", "rounding", "reading"):
                        found[each] = statistics.median(team.seconds(each, size=SIZES[-1], count=COUNT)) / SIZES[-1]
        except PeerError as reason:
            found["absent"].append({"peer": name, "reason": str(reason)})
    found["link"] = link_of(found).to_dict() if "mpi" in found else None
    return found


def _times(team: Team, what: str, sizes: Sequence[int]) -> list[list[float]]:
    times = []
    for size in sizes:
        team.ask(what, size=size, count=2)  # the first meet a connection that is not there yet
        times.append([size, statistics.median(team.seconds(what, size=size, count=counted(size)))])
    return times


def link_of(found: dict[str, Any]) -> Link:
    return fit_link([(size, seconds) for size, seconds in found["mpi"]["messages"]])
