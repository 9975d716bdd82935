"""Single operations at the shapes of the models, by turns, beside the limits of the machine: all of them in float32,
and the matrix products in every precision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from . import operations
from .machine import Limits, spread
from .operations import Operation
from .process import PeerError, Process
from .request import Request

ENGINES = ("loopos", "torch", "torch-medium", "torch-bfloat16")
FLOAT32 = ("loopos", "torch")  # those that all operations are measured of
DEFAULT = ("nano", "baby", "wide", "gpt2", "llama")
TURN = 0.05  # seconds of one turn, when the number of calls is not given
MAX_CALLS = 10_000


def measure(asked: Request) -> dict[str, Any]:
    """The time of a call of each operation at the shapes of the settings. A step is a call; a turn has as many
    as take a twentieth of a second unless asked otherwise. The matrix products are measured one by one, too, of every
    engine; asked.products: nothing else is."""
    absent: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []
    products: list[dict[str, Any]] = []
    threads = asked.threads
    limits = Limits(threads)
    with ExitStack() as stack:
        running = []
        for name in asked.peers:
            try:
                running.append(stack.enter_context(Process(name, threads, keep_memory=True)))
            except PeerError as reason:
                absent.append({"peer": name, "threads": threads, "reason": str(reason)})
        for setting in asked.settings:
            limits.measure()
            for each in [] if asked.products else operations.of(setting):
                asked.report(f"{setting.name}: {each.name} {each.direction}")
                plain = [process for process in running if process.name in FLOAT32]
                measured.append(_operation(each, setting.name, plain, asked.rounds, asked.steps, absent))
            for each in operations.products(setting):
                asked.report(f"{setting.name}: product {each.name} {each.direction}")
                products.append(_operation(each, setting.name, running, asked.rounds, asked.steps, absent))
        limits.measure()
        engines = {process.name: process.engine for process in running}
    result = limits.result()
    for each in (*measured, *products):
        _add_speeds(each, result)
    found = {"operations": measured, "products": products}
    return {"limits": [result], "engines": engines, "absent": absent} | found


def _operation(
    operation: Operation,
    setting: str,
    running: Sequence[Process],
    rounds: int,
    calls: int | None,
    absent: list[dict[str, Any]],
) -> dict[str, Any]:
    about = {
        "name": operation.name,
        "backward": operation.backward,
        "arrays": operation.arrays,
        "options": operation.options,
    }
    counts: dict[Process, int] = {}
    seconds: dict[Process, list[float]] = {}

    def leave(process: Process, reason: PeerError) -> None:
        counts.pop(process, None)
        where = f"{setting}: {operation.name} {operation.direction}"
        absent.append({"peer": process.name, "threads": process.threads, "reason": f"{where}: {reason}"})

    for process in running:
        try:
            process.ask("operation", **about)
            counts[process] = calls if calls is not None else _calls(process)
            seconds[process] = []
        except PeerError as reason:
            leave(process, reason)
    for turn in range(rounds):
        for process, count in list(counts.items()):
            try:
                seconds[process].append(process.turn("calls", count=count)["seconds"] / count)
                if turn == rounds - 1:
                    process.ask("forget")
            except PeerError as reason:
                leave(process, reason)
    return {
        "operation": operation.name,
        "direction": operation.direction,
        "setting": setting,
        "shape": operation.shape,
        "flops": operation.flops,
        "bytes": operation.bytes,
        "peers": [{"peer": process.name, "seconds": spread(seconds[process])} for process in counts],
    }


def _calls(process: Process) -> int:
    """How many fill a turn; the first call is not counted, nor the pause that the second is measured after."""
    process.turn("calls", count=1)
    once = process.turn("calls", count=2)["seconds"] / 2
    return max(1, min(MAX_CALLS, round(TURN / max(once, 1e-9))))


def _add_speeds(measured: dict[str, Any], limits: dict[str, Any]) -> None:
    """The least time the machine's limits allow is that of its arithmetic or that of its bytes, whichever is longer:
    that limit is the relevant one, and its share is least time over time. Data that stay in a cache may exceed the
    memory's limit."""
    arithmetic = measured["flops"] / limits["flops_per_second"]["median"]
    memory = measured["bytes"] / limits["bytes_per_second"]["median"]
    measured["limit"] = "arithmetic" if arithmetic >= memory else "memory"
    for peer in measured["peers"]:
        median = peer["seconds"]["median"]
        peer["flops_per_second"] = measured["flops"] / median
        peer["bytes_per_second"] = measured["bytes"] / median
        peer["fraction_of_limit"] = max(arithmetic, memory) / median
