"""The suites by name: what `loopos bench` runs, and the shape of what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loopos import _core, checks

from . import machine, ops, process, settings, steps

FORMAT = 1  # of the JSON
DEFAULT_ROUNDS = 5


def run(
    suite: str,
    *,
    setting: str | None = None,
    peers: str | None = None,
    threads: int | None = None,
    rounds: int = DEFAULT_ROUNDS,
    steps: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Runs a suite; the result is plain data, safe for JSON.

    setting, peers: names with commas between, None: all; threads: of every engine (None: as many as in use); rounds:
    turns of each engine; steps: of one turn (None: by their length). ValueError or TypeError for a bad argument,
    before anything runs."""
    checks.choice("bench", "suite", suite, tuple(SUITES))
    engines, measure = SUITES[suite]
    chosen = process.chosen(peers, engines)
    rounds = checks.count("bench", "rounds", rounds, high=10_000)
    if steps is not None:
        steps = checks.count("bench", "steps", steps, high=10_000)
    before = _core.get_num_threads()
    threads = before if threads is None else checks.count("bench", "threads", threads, high=1024)
    try:
        measured = measure(setting, chosen, threads=threads, rounds=rounds, steps=steps, say=say)
    finally:
        _core.set_num_threads(before)
    about = {"suite": suite, "format": FORMAT, "machine": machine.describe(), "threads": threads, "rounds": rounds}
    return about | measured


def _steps(setting: str | None, peers: list[str], **how: Any) -> dict[str, Any]:
    return steps.measure(settings.named(setting), peers, **how)


def _ops(setting: str | None, peers: list[str], **how: Any) -> dict[str, Any]:
    return ops.measure(settings.named(setting or ",".join(ops.DEFAULT)), peers, **how)


SUITES: dict[str, tuple[tuple[str, ...], Callable[..., dict[str, Any]]]] = {
    "steps": (steps.ENGINES, _steps),
    "ops": (ops.ENGINES, _ops),
}
