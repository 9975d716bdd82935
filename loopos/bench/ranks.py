"""Several processes that train one model together: LoopOS over MPI beside PyTorch's DistributedDataParallel over gloo.

Each rank is one thread on a core of its own, beside one process with as many threads; the same model and batch for all,
by turns. What is measured here also feeds the model of the time of a step (``step_time``), which is then held against
the measured steps, on this machine's memory and on a link of 1 Gbit/s between two network namespaces.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from . import namespaces, network
from .machine import spread
from .process import LORA, PeerError
from .request import Request
from .settings import SETTINGS, TINY, Setting, named_of
from .step_time import apart, fit_compute
from .steps import MAX_STEPS, MIN_STEPS, SEED
from .team import Team

ENGINES = ("loopos", "loopos-fast", "loopos-wire", "loopos-zero", "torch-ddp")
ADAPTED = {name: replace(SETTINGS["gpt2"], name=name) for name in ("lora",)}  # trained by LoRA
SETTINGS_HERE = {name: SETTINGS[name] for name in ("nano", "baby", "wide", "gpt2")} | ADAPTED
TINY_HERE = {"tiny": TINY["tiny"], "tiny-lora": replace(TINY["tiny"], name="tiny-lora")}
REDUCTION = {"loopos-fast": "fast", "loopos-wire": "bfloat16", "loopos-zero": "zero"}  # else the tree, in float32
TURN = 0.5  # seconds of one turn, when the number of steps is not given
SLOW_GIGABITS = 1.0
SLOW_STEPS = 2
NOT_SLOW = ("loopos-fast",)  # as many bytes as the tree, which decide there
POINTS_STEPS = 3
WARM_UP = 2


def named(names: str) -> list[Setting]:
    return named_of(names, SETTINGS_HERE, TINY_HERE)


class Entrant(NamedTuple):
    """An engine, its number of processes, and the threads of each."""

    peer: str
    ranks: int
    threads: int


def entrants(peers: Sequence[str], threads: int) -> list[Entrant]:
    """Of each engine one process with all threads, and as many processes with one each. Alone, the reduction is the
    same, so there is one LoopOS."""
    alone = [Entrant(peer, 1, threads) for peer in peers if peer not in REDUCTION]
    return [*alone, *(Entrant(peer, threads, 1) for peer in peers)]


def measure(asked: Request) -> dict[str, Any]:
    """See the module. ``asked.threads`` is the number of ranks, too: at least 2."""
    cores = sorted(os.sched_getaffinity(0))
    if asked.threads < 2:
        raise ValueError("bench: ranks needs threads of at least 2: as many ranks are measured")
    if len(cores) < asked.threads:
        raise ValueError(f"bench: ranks gives each rank a core of its own; threads must be at most {len(cores)} here")
    for each in asked.settings:
        if each.batch % asked.threads:
            raise ValueError(
                f"bench: {each.name} has {each.batch} sequences, which {asked.threads} ranks cannot share evenly"
            )
    load = os.getloadavg()[0]  # before anything is begun: of other programs
    asked.report("network: messages and sums")
    here = network.measure([[core] for core in cores[:2]])
    settings = [_compare(each, asked, cores) for each in asked.settings]
    slow = _slow(asked, cores)
    links = {"here": here, "slow": slow.pop("network", None)}
    return {"network": links, "settings": settings, "slow": slow, "load": load}


def _reduction(peer: str) -> str:
    return REDUCTION.get(peer, "tree")


def lora_of(setting: Setting) -> dict[str, Any]:
    return {"adapter": LORA} if setting.name.endswith("lora") else {}


def _begin(team: Team, setting: Setting, peer: str, warm_up: int = WARM_UP) -> dict[str, Any]:
    """Builds the model and warms up."""
    found = team.ask("prepare", setting=setting.to_dict(), seed=SEED, reduction=_reduction(peer), **lora_of(setting))
    if found[0]["parameters"] != setting.config.num_parameters():
        raise PeerError(f"built {found[0]['parameters']} parameters instead of {setting.config.num_parameters()}")
    replies = team.turn("steps", count=warm_up)
    return {"trained": found[0]["trained"], "losses": [reply["losses"] for reply in replies]}


class _Running:
    """An entrant whose processes live, and what was measured of it."""

    def __init__(self, entrant: Entrant, team: Team, begun: dict[str, Any], steps: int | None, shares: bool = False):
        """shares: its processes are those of other entrants, whose memory is not its own."""
        self.entrant, self.team, self.begun = entrant, team, begun
        _whole(team, entrant.peer)
        self.count = steps or max(MIN_STEPS, min(MAX_STEPS, round(TURN / team.seconds("steps", count=2)[1])))
        if not shares:
            begun["peak_rss"] = team.peak_rss()
        self.together: list[float] = []
        self.separate: list[float] = []

    def turn(self, rows: int) -> None:
        _whole(self.team, self.entrant.peer)
        self.together += self.team.seconds("steps", count=self.count + 1)[1:]  # the first takes memory

    def turn_apart(self, rows: int) -> None:
        if self.entrant.ranks > 1:
            self.separate += _apart(self.team, rows, 1, max(MIN_STEPS, self.count // 2))

    def result(self, tokens: int) -> dict[str, Any]:
        step = spread(self.together)
        found = self.entrant._asdict() | {"engine": self.team.engine} | self.begun
        found |= {"seconds": step, "steps": len(self.together), "tokens_per_second": tokens / step["median"]}
        if self.separate:
            found["without_reduction"] = spread(self.separate)
            found["communication"] = 1 - statistics.median(self.separate) / step["median"]
        return found


def _compare(setting: Setting, asked: Request, cores: list[int]) -> dict[str, Any]:
    """All entrants on one setting, by turns. Turns without reduction come last: the weights of ranks that do not add
    their gradients part."""
    rows, running, absent = setting.batch // asked.threads, {}, []

    def attempt(entrant: Entrant, do: Callable[[], Any]) -> None:
        try:
            do()
        except PeerError as reason:
            running.pop(entrant, None)
            absent.append(entrant._asdict() | {"reason": str(reason)})

    with ExitStack() as stack:

        def start(entrant: Entrant) -> None:
            same = running.get(entrant._replace(peer="loopos")) if entrant.peer in REDUCTION else None
            if same is None:
                team = stack.enter_context(Team(*entrant, _cores(entrant, cores)))
                running[entrant] = _Running(entrant, team, _begin(team, setting, entrant.peer), asked.steps)
            else:  # in its processes: large models would not be in memory three times
                begun = {"trained": same.begun["trained"]}
                running[entrant] = _Running(entrant, same.team, begun, asked.steps, shares=True)

        for entrant in entrants(asked.peers, asked.threads):
            asked.report(f"{setting.name}: {entrant.peer} starts, ranks {entrant.ranks}, threads {entrant.threads}")
            attempt(entrant, partial(start, entrant))
        for what, turn in (("", _Running.turn), (" without reduction", _Running.turn_apart)):
            for number in range(asked.rounds):
                asked.report(f"{setting.name}: round {number + 1} of {asked.rounds}{what}")
                for entrant, each in list(running.items()):
                    attempt(entrant, partial(turn, each, rows))
        compute = {}
        for name, ranks, of in (("node", 1, setting.batch), ("rank", asked.threads, rows)):
            if each := running.get(Entrant("loopos", ranks, asked.threads // ranks)):
                asked.report(f"{setting.name}: batches and passes of a {name}")
                attempt(each.entrant, lambda: compute.update({name: _fitted(_points(each.team, of))}))  # noqa: B023
    for entrant, each in list(running.items()):
        if "peak_rss" not in each.begun:
            asked.report(f"{setting.name}: memory of {entrant.peer}")
            attempt(entrant, lambda: each.begun.update(peak_rss=_peak_rss(entrant, setting, cores)))  # noqa: B023
    return {
        "setting": setting.to_dict() | setting.amount | {"parameters": setting.config.num_parameters()},
        "rows": rows,
        "peers": [each.result(setting.tokens) for each in running.values()],
        "absent": absent,
        "compute": compute,
    }


def _peak_rss(entrant: Entrant, setting: Setting, cores: list[int]) -> int:
    """Bytes, of processes of its own."""
    with Team(*entrant, _cores(entrant, cores)) as team:
        _begin(team, setting, entrant.peer)
        team.seconds("steps", count=2)
        return team.peak_rss()


def _cores(entrant: Entrant, cores: list[int]) -> list[list[int]]:
    return [cores[i * entrant.threads : (i + 1) * entrant.threads] for i in range(entrant.ranks)]


def _whole(team: Team, peer: str) -> bool:
    """The next steps are together, and their gradients added as this peer does. Whether they are sent on the way."""
    return team.ask("cut", rows=0, passes=1, reduction=_reduction(peer))[0]["overlaps"]


def _apart(team: Team, rows: int, passes: int, count: int) -> list[float]:
    """Seconds of steps without reduction, of which the first is left out: it meets another size."""
    team.ask("cut", rows=rows, passes=passes)
    return team.seconds("steps", count=count + 1)[1:]


def _points(team: Team, rows: int) -> list[tuple[int, int, float]]:
    """(rows, passes, seconds of a step) about this number of rows, in all ranks at once and without reduction."""
    asked = dict.fromkeys([(rows, 1), (rows, 2), (max(1, rows // 2), 1), (max(1, rows // 2), 2), (2 * rows, 1)])
    return [(*each, statistics.median(_apart(team, *each, POINTS_STEPS))) for each in asked]


def _fitted(points: list[tuple[int, int, float]]) -> dict[str, Any]:
    fit = fit_compute(points)
    return {"points": [list(each) for each in points], "fit": fit.to_dict(), "apart": apart(fit, points)}


def _slow(asked: Request, cores: list[int]) -> dict[str, Any]:
    """The steps of two ranks on two hosts that a slow link joins; the reason where there are no hosts."""
    if reason := namespaces.why_not():
        return {"absent": f"no network namespaces here: {reason}"}
    result: dict[str, Any] = {"gigabits": SLOW_GIGABITS, "settings": []}
    with namespaces.hosts(2) as hosts:
        hosts.limit(SLOW_GIGABITS)
        asked.report(f"network of {SLOW_GIGABITS:g} Gbit/s: messages and sums")
        result["network"] = network.measure([[core] for core in cores[:2]], hosts)
        for setting in asked.settings:
            peers = []
            for name in [each for each in asked.peers if each not in NOT_SLOW]:
                asked.report(f"{setting.name}: {name} over {SLOW_GIGABITS:g} Gbit/s")
                try:
                    with Team(name, 2, 1, [[core] for core in cores[:2]], hosts) as team:
                        _begin(team, setting, name, 1)
                        overlaps = _whole(team, name)
                        seconds = team.seconds("steps", count=asked.steps or SLOW_STEPS)
                        found = {"peer": name, "engine": team.engine, "overlaps": overlaps}
                        peers.append(found | {"seconds": spread(seconds)})
                except PeerError as failed:
                    peers.append({"peer": name, "reason": str(failed)})
            result["settings"].append({"setting": setting.name, "peers": peers})
    return result
