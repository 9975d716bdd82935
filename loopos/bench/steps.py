"""Training steps of several engines on the same data, by turns: A B A B."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from loopos import _core

from .machine import Limits, spread
from .picture_settings import PictureSetting
from .precisions import beside
from .process import SETTLE, PeerError, Process
from .request import Request
from .settings import Setting

ENGINES = ("loopos", "torch", "torch-medium", "torch-autocast", "torch-compiled", "jax")
TURN = 1.0  # seconds of one turn, when the number of steps is not given
MAX_STEPS, MIN_STEPS = 50, 2  # steps of one turn then
WARM_UP = 2  # steps before anything is kept: the first compiles, allocates, faults pages in
SEED = 0


class Entrant(NamedTuple):
    """An engine with its number of threads."""

    peer: str
    threads: int


def measure(asked: Request) -> dict[str, Any]:
    """The step times of the engines on each setting; see :func:`compare`."""
    entrants = [Entrant(peer, asked.threads) for peer in asked.peers]
    how: dict[str, Any] = {"rounds": asked.rounds, "steps": asked.steps, "report": asked.report}
    return {"settings": [compare(each, entrants, **how) for each in asked.settings]}


def compare(
    setting: Setting | PictureSetting,
    entrants: Sequence[Entrant],
    *,
    rounds: int,
    steps: int | None,
    report: Callable[[str], None],
    weights: str | None = None,
) -> dict[str, Any]:
    """The step times of ``entrants`` on one setting.

    rounds: turns of each that are kept; steps: of one turn (None: as many as take about a second, from 2 to 50). Every
    entrant keeps its process, and the limits of the machine are measured in each round, once for each number of
    threads. report: called with what is being done. weights: a file of those that every engine begins with, by
    LoopOS's names (None: each draws its own)."""
    results: dict[Entrant, dict[str, Any]] = {}
    absent: list[dict[str, Any]] = []
    limits = {threads: Limits(threads) for threads in sorted({each.threads for each in entrants})}
    with ExitStack() as stack:
        running: dict[Entrant, tuple[Process, int]] = {}
        for entrant in entrants:
            report(f"{setting.name}: {entrant.peer} starts, threads {entrant.threads}")
            try:
                _require_memory(results.values())
                process = stack.enter_context(Process(*entrant))
                results[entrant], count = _start(process, setting, steps, weights)
                running[entrant] = process, count
            except PeerError as reason:
                absent.append(entrant._asdict() | {"reason": str(reason)})
        seconds: dict[Entrant, list[float]] = {entrant: [] for entrant in running}
        for turn in range(rounds):
            report(f"{setting.name}: round {turn + 1} of {rounds}")
            for limit in limits.values():
                limit.measure()
            time.sleep(SETTLE)
            for entrant, (process, count) in list(running.items()):
                try:
                    seconds[entrant] += process.turn("steps", count=count)["seconds"]
                    results[entrant]["peak_rss"] = process.ask("memory")["peak_rss"]
                except PeerError as reason:
                    del running[entrant]
                    absent.append(entrant._asdict() | {"reason": str(reason)})
    measured = {threads: limit.result() for threads, limit in limits.items()}
    kept = [results[entrant] | _figures(setting, seconds[entrant], measured[entrant.threads]) for entrant in running]
    return {
        "setting": setting.to_dict() | setting.amount | {"parameters": setting.config.num_parameters()},
        "flops": setting.flops().to_dict(),
        "limits": list(measured.values()),
        "peers": kept,
        "absent": absent,
        "ratio": ratio(kept),
    }


def _require_memory(started: Iterable[dict[str, Any]]) -> None:
    """PeerError where the memory that is left is less than the largest process so far has taken: one more that is as
    large would have the system end one of them."""
    most, left = max((each["peak_rss"] for each in started), default=0), _core.available_bytes()
    if left < most:
        raise PeerError(
            f"{left / 2**20:,.0f} MiB are left beside the others, of which one has taken {most / 2**20:,.0f}; "
            "name fewer peers"
        )


def _start(
    process: Process, setting: Setting | PictureSetting, steps: int | None, weights: str | None
) -> tuple[dict[str, Any], int]:
    """Builds the model, warms up, and settles how many steps a turn has."""
    parameters = process.ask("prepare", setting=setting.to_dict(), seed=SEED)["parameters"]
    if parameters != setting.config.num_parameters():
        raise PeerError(f"built {parameters} parameters instead of {setting.config.num_parameters()}")
    if weights is not None:
        process.ask("begin", weights=weights)
    first = process.turn("steps", count=WARM_UP)
    result = {
        "peer": process.name,
        "threads": process.threads,
        "engine": process.engine,
        "first_loss": first["losses"][0],
        "losses": first["losses"],
        "rss_before": process.rss,
        "peak_rss": process.ask("memory")["peak_rss"],
    }
    if steps is not None:
        return result, steps
    second = process.turn("steps", count=1)["seconds"][0]
    return result, max(MIN_STEPS, min(MAX_STEPS, round(TURN / second)))


def _figures(setting: Setting | PictureSetting, seconds: list[float], limits: dict[str, Any]) -> dict[str, Any]:
    step = spread(seconds)
    speed = setting.flops().total / step["median"]
    return {
        "seconds": step,
        "steps": len(seconds),
        **{f"{what}_per_second": count / step["median"] for what, count in setting.amount.items()},
        "flops_per_second": speed,
        "fraction_of_peak": speed / limits["flops_per_second"]["median"],
    }


def ratio(peers: Sequence[dict[str, Any]]) -> float | None:
    """Median step time of PyTorch in float32, the better of eager and compiled, over ours, with the most threads that
    were measured; None where one of the two is absent."""
    most = max((each["threads"] for each in peers), default=0)
    return beside([each for each in peers if each["threads"] == most], "float32", median)


def median(peer: dict[str, Any]) -> float:
    return peer["seconds"]["median"]
