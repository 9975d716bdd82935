"""Training steps of several engines on the same data, by turns: A B A B."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from .machine import Limits, spread
from .process import SETTLE, PeerError, Process
from .settings import Setting, step_flops

ENGINES = ("loopos", "torch", "torch-compiled", "jax")
TURN = 1.0  # seconds of one turn, when the number of steps is not given
MOST, LEAST = 50, 2  # steps of one turn then
WARM_UP = 2  # steps before anything is kept: the first compiles, allocates, faults pages in
SEED = 0


def measure(
    settings: Sequence[Setting],
    peers: Sequence[str],
    *,
    threads: int,
    rounds: int,
    steps: int | None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The step times of ``peers`` on each of ``settings``.

    rounds: turns of each engine that are kept; steps: of one turn (None: as many as take about a second, from 2 to
    50). Every engine keeps its process through the rounds of a setting, and the limits of the machine are measured in
    each round. say: told what is being done."""
    return {"settings": [_setting(each, peers, threads, rounds, steps, say) for each in settings]}


def _setting(
    setting: Setting, peers: Sequence[str], threads: int, rounds: int, steps: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    results: dict[str, dict[str, Any]] = {}
    absent: list[dict[str, str]] = []
    limits = Limits(threads)
    with ExitStack() as stack:
        running: list[tuple[Process, int]] = []
        for name in peers:
            say(f"{setting.name}: {name} starts")
            try:
                process = stack.enter_context(Process(name, threads))
                results[name], count = _start(process, setting, steps)
                running.append((process, count))
            except PeerError as reason:
                results.pop(name, None)
                absent.append({"peer": name, "reason": str(reason)})
        seconds: dict[str, list[float]] = {process.name: [] for process, _ in running}
        for turn in range(rounds):
            say(f"{setting.name}: round {turn + 1} of {rounds}")
            limits.measure()
            time.sleep(SETTLE)
            for process, count in list(running):
                try:
                    seconds[process.name] += process.turn("steps", count=count)["seconds"]
                except PeerError as reason:
                    running.remove((process, count))
                    absent.append({"peer": process.name, "reason": str(reason)})
        for process, _ in running:
            results[process.name] |= _figures(setting, seconds[process.name], limits.result())
            results[process.name]["peak_rss"] = process.ask("memory")["peak_rss"]
    kept = [results[process.name] for process, _ in running]
    return {
        "setting": setting.to_dict() | {"tokens": setting.tokens, "parameters": setting.config.num_parameters()},
        "flops": step_flops(setting).to_dict(),
        "limits": limits.result(),
        "peers": kept,
        "absent": absent,
        "ratio": ratio(kept),
    }


def _start(process: Process, setting: Setting, steps: int | None) -> tuple[dict[str, Any], int]:
    """Builds the model, warms up, and settles how many steps a turn has."""
    parameters = process.ask("prepare", setting=setting.to_dict(), seed=SEED)["parameters"]
    if parameters != setting.config.num_parameters():
        raise PeerError(f"built {parameters} parameters instead of {setting.config.num_parameters()}")
    first = process.ask("steps", count=WARM_UP)
    result = {
        "peer": process.name,
        "engine": process.engine,
        "first_loss": first["losses"][0],
        "rss_before": process.rss,
    }
    if steps is not None:
        return result, steps
    second = process.turn("steps", count=1)["seconds"][0]
    return result, max(LEAST, min(MOST, round(TURN / second)))


def _figures(setting: Setting, seconds: list[float], limits: dict[str, Any]) -> dict[str, Any]:
    step = spread(seconds)
    speed = step_flops(setting).total / step["median"]
    return {
        "seconds": step,
        "steps": len(seconds),
        "tokens_per_second": setting.tokens / step["median"],
        "flops_per_second": speed,
        "fraction_of_peak": speed / limits["flops_per_second"]["median"],
    }


def ratio(peers: Sequence[dict[str, Any]]) -> float | None:
    """Median step time of PyTorch, the better of eager and compiled, over ours; None where one of the two is absent."""
    ours = [each["seconds"]["median"] for each in peers if each["peer"] == "loopos"]
    theirs = [each["seconds"]["median"] for each in peers if each["peer"] in ("torch", "torch-compiled")]
    return min(theirs) / ours[0] if ours and theirs else None
