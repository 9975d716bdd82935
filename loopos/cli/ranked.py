"""A command as one of the processes that mpiexec started: the first speaks, the others compute."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

from loopos import checks
from loopos.distributed import Distributed
from loopos.distributed.alone import Alone
from loopos.distributed.opening import launched, open_ranks, refuse_strangers
from loopos.distributed.options import AUTO, SECONDS, TIMEOUT, WIRES

SHARED = {
    "distributed": "auto: over the processes that mpiexec started, as it is under mpiexec anyway; none: each alone",
    "shards": "parts of a batch, as many for any number of processes, whose gradients are added in a fixed order "
    "(docs/distributed.md; default: 1, or with distributed 8)",
}
RANKS = {
    "fast_reduce": "MPI adds the gradients as it likes: less memory and work, other bits for another number of ranks",
    "wire": "float32, or bfloat16: gradients are sent rounded, and what that took away is added to the next ones",
    "shard_optimizer": "each rank keeps the moments of its own parameters alone: the same bits, less memory",
    "rank_timeout": "seconds that a rank may keep the others waiting before the run is ended",
}
NONE = "none"
CHOICES = {"wire": WIRES}
COMMANDS = ("train", "doctor", "caption", "classify", "covariance")  # that are one run over all processes
TOLD = ("info", "explain", "diff")  # that only look: the first process tells; any other command is refused for several
_FIRST = 1.0  # seconds in which the first rank says what all of them meet


def behind(given: Mapping[str, Any] | None = None) -> bool:
    """Whether a launcher started this process, and it is not the first, which alone speaks. given: the options, or what
    :func:`take` made of them: where they say that nothing is distributed, each process speaks for itself."""
    told, apart = launched(), (given or {}).get("distributed", AUTO) in (None, NONE)
    return told is not None and told[0] != 0 and not apart


def idle(command: str) -> bool:
    """Whether the first process does the command, and this is another. ValueError in each of several processes for one
    that is neither of COMMANDS nor of TOLD."""
    if command not in (*COMMANDS, *TOLD):
        refuse(command)
    return command in TOLD and behind()


def refuse(what: str) -> None:
    """ValueError in each of several processes that a launcher started: one process does ``what``."""
    told = launched()
    if told is None or told[1] in (None, 1):
        return
    error = ValueError(
        f"{what} is done by one process, and a launcher started {told[1]}, which would all do it; "
        f"start it once, without mpiexec. What runs on several: {', '.join(COMMANDS)}"
    )
    error.told = told[0] != 0  # type: ignore[attr-defined]
    raise error


def add(group: Any, add_flag: Callable[..., None]) -> None:
    """The flags of RANKS; add_flag(group, name, help, annotation, default) adds one."""
    known = {each.name: each for each in fields(Distributed)}
    for name, text in RANKS.items():
        each = known[name.removeprefix("rank_")]
        add_flag(group, name, text, str(each.type), each.default)


def take(asked: dict[str, Any]) -> dict[str, Any]:
    """Out of the options of train, what is about several processes, as keywords of loopos.train."""
    given = {name: asked.pop(name) for name in RANKS if name in asked}
    if "rank_timeout" in given:
        checks.real("train", "rank_timeout", given["rank_timeout"], **SECONDS)
    if "distributed" not in asked:
        refuse_strangers()
    distributed = asked.pop("distributed", AUTO if launched() is not None else None)
    apart = distributed == NONE
    if apart:
        distributed = None
    if given and distributed is None:
        raise ValueError(f"train: {', '.join(given)} is of a run over several processes; start it with mpiexec")
    if given and distributed == AUTO:
        distributed = Distributed(**{name.removeprefix("rank_"): value for name, value in given.items()})
    return {"distributed": distributed} if apart or distributed is not None else {}


def together(given: dict[str, Any]) -> AbstractContextManager[Any]:
    """In it an error of one process ends all of them, and is told once."""
    return started(given).agreed()


def started(given: dict[str, Any]) -> Alone:
    """The processes of this command; one, where no launcher started it."""
    if launched() is None or given.get("distributed") == NONE:
        return Alone()
    seconds = given.get("rank_timeout", TIMEOUT)
    if not 0 < seconds <= SECONDS["high"]:
        seconds = TIMEOUT  # take() refuses it, in the agreement
    return open_ranks(Distributed(timeout=seconds))


def tells(error: BaseException) -> bool:
    """Whether this process is to print the error."""
    if getattr(error, "told", False):
        return False
    if behind():
        time.sleep(_FIRST)  # the first rank meets it too, perhaps: then it ends all of them
    return True
