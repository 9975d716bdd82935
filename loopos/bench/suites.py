"""The suites by name: what `loopos bench` runs, and the shape of what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from loopos import _core, checks

from . import (
    adapters,
    generation,
    machine,
    ops,
    picture_settings,
    pictures,
    precisions,
    process,
    ranks,
    real,
    real_model,
    scaling,
    settings,
    steps,
)
from .request import Request

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
    model: str | None = None,
    precision: str | None = None,
    products: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Runs a suite; the result is plain data, safe for JSON.

    setting, peers: names with commas between, None: all; threads: of every engine (None: as many as in use); rounds:
    turns of each engine; steps: of one turn (None: by their length); model: a Hugging Face folder, for OF_A_MODEL;
    precision: of our products, names with commas between, None: all, for IN_PRECISIONS (one that this machine computes
    as float32 is measured as float32, once); products: for ops, the matrix products alone.
    ValueError or TypeError for a bad argument, before anything runs."""
    checks.choice("bench", "suite", suite, tuple(SUITES))
    what = SUITES[suite]
    if suite not in OF_A_MODEL and model is not None:
        raise ValueError(f"bench: a model's folder is for {' and '.join(OF_A_MODEL)}, not for {suite}")
    if suite not in IN_PRECISIONS and precision is not None:
        raise ValueError(f"bench: a precision is for {', '.join(IN_PRECISIONS)}, not for {suite}")
    if suite != "ops" and products:
        raise ValueError(f"bench: products alone are for ops, not for {suite}")
    chosen = setting if setting is not None else ",".join(what.default) or None
    models = [] if chosen is None else what.named(chosen)
    folder = real_model.check_model(model) if suite in OF_A_MODEL else None
    engines = process.chosen(peers, what.engines)
    computed: dict[str, Any] = {}
    if suite in IN_PRECISIONS:
        asked = precisions.named(precision)
        engines, computed = precisions.engines(engines, asked), {"precisions": precisions.describe(asked)}
    rounds = checks.count("bench", "rounds", rounds, high=10_000)
    if steps is not None:
        steps = checks.count("bench", "steps", steps, high=10_000)
    before = _core.get_num_threads()
    threads = before if threads is None else checks.count("bench", "threads", threads, high=1024)
    try:
        measured = what.measure(Request(models, engines, threads, rounds, steps, report, folder, products))
    finally:
        _core.set_num_threads(before)
    about = {"suite": suite, "format": FORMAT, "machine": machine.describe(), "threads": threads, "rounds": rounds}
    return about | computed | measured


class Suite(NamedTuple):
    """What it measures, which engines can take part, which settings it takes by default, and what reads their names."""

    measure: Callable[[Request], dict[str, Any]]
    engines: tuple[str, ...]
    default: tuple[str, ...]
    named: Callable[[str], list[Any]] = settings.named


SUITES = {
    "steps": Suite(steps.measure, steps.ENGINES, tuple(settings.SETTINGS)),
    "ops": Suite(ops.measure, ops.ENGINES, ops.DEFAULT),
    "scaling": Suite(scaling.measure, scaling.ENGINES, scaling.DEFAULT),
    "generate": Suite(generation.measure, generation.ENGINES, generation.DEFAULT),
    "real": Suite(real.measure, real.ENGINES, ()),
    "adapters": Suite(adapters.measure, adapters.ENGINES, ()),
    "pictures": Suite(
        pictures.measure, pictures.ENGINES, tuple(picture_settings.PICTURES), named=picture_settings.named
    ),
    "ranks": Suite(ranks.measure, ranks.ENGINES, tuple(ranks.SETTINGS_HERE), named=ranks.named),
}
IN_PRECISIONS = ("steps", "ops", "pictures")  # those that measure our engine in every precision
OF_A_MODEL = ("real", "adapters")  # those that measure one model: of a folder, of the package, or of one setting
