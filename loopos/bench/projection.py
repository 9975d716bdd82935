"""From a record of `loopos bench ranks` to what it says of more nodes: the model of ``step_time`` with the computing
that was measured and links that are given. And the same model beside every step of several ranks that was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .step_time import Compute, Gradient, Link, Step, efficiency, least_passes, step

NODES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
PAYLOAD = 0.94  # of the bits of Ethernet with frames of 1,500 bytes, what TCP delivers
LINKS = {  # Gbit/s: seconds of a message over TCP, given and not measured
    1: 50e-6,
    10: 25e-6,
    100: 10e-6,
}
GOAL = 0.8
PASSES = (1, 4)
NAMES = {"loopos": "tree", "loopos-fast": "fast", "loopos-wire": "bfloat16 wire", "loopos-zero": "ZeRO-1"}
WIRE = 0.5  # bfloat16 over float32
HOW: dict[str, dict[str, Any]] = {
    "loopos": {},
    "loopos-fast": {"reduction": "fast"},
    "loopos-wire": {"wire": WIRE},
    "loopos-zero": {"sharded_update": True},
}


class Checked(NamedTuple):
    """A measured step beside what the model says of it, in seconds."""

    setting: str
    link: str
    reduction: str
    measured: float
    model: Step

    @property
    def off(self) -> float:
        """By how much of the measured step the model is above it."""
        return self.model.seconds / self.measured - 1


def link(gigabits: int) -> Link:
    return Link.ethernet(gigabits, LINKS[gigabits], PAYLOAD)


def gradient_of(each: dict[str, Any], network: dict[str, Any]) -> Gradient:
    """Of a setting of the record, in float32, between processes of this ``network``. Of a model that is trained whole
    the embeddings' gradient is whole last; of an adapter none is."""
    config, trained = each["setting"]["config"], each["peers"][0]["trained"]
    whole = trained == each["setting"]["parameters"]
    late = 4 * config["vocab_size"] * config["d_model"] if whole else 0
    return Gradient(4 * trained, late, network["adding"], network.get("rounding", 0.0), network.get("reading", 0.0))


def checks(result: dict[str, Any]) -> list[Checked]:
    """Every measured point of several ranks of LoopOS."""
    found = []
    slow = {each["setting"]: each for each in result["slow"].get("settings", [])}
    for each in result["settings"]:
        name, here = each["setting"]["name"], result["network"]["here"]
        rank = each["compute"].get("rank")
        if rank is None:
            continue
        compute = Compute(**rank["fit"])
        measured = [(peer, peer["ranks"]) for peer in each["peers"] if peer["ranks"] > 1]
        found += list(_checked(each, "memory", compute, here, measured))
        over = [(peer, 2) for peer in slow.get(name, {}).get("peers", []) if "seconds" in peer]
        link_name = f"{result['slow'].get('gigabits', 0):g} Gbit/s"
        found += list(_checked(each, link_name, compute, result["network"]["slow"], over))
    return found


def _checked(
    each: dict[str, Any], name: str, compute: Compute, network: dict[str, Any] | None, measured: list
) -> Iterator[Checked]:
    if network is None or network["link"] is None:
        return
    gradient, over = gradient_of(each, network), Link(**network["link"])
    for peer, ranks in measured:
        how = HOW.get(peer["peer"])
        if how is None or ("wire" in how and not gradient.rounding):  # not ours, or rounding was not measured
            continue
        overlaps = peer.get("overlaps", False)
        rows = each["setting"]["batch"] / ranks
        said = step(ranks, compute, gradient, over, rows=rows, overlap=float(overlaps), **how)
        reduction = NAMES[peer["peer"]] + (", overlap" if overlaps else "")
        yield Checked(each["setting"]["name"], name, reduction, peer["seconds"]["median"], said)


class Node(NamedTuple):
    """What a node of the projections is: this machine, all threads, as measured."""

    name: str
    rows: int  # of a pass
    tokens: int  # of a sequence
    compute: Compute
    gradient: Gradient


def nodes(result: dict[str, Any]) -> list[Node]:
    found = []
    for each in result["settings"]:
        if (measured := each["compute"].get("node")) is not None and "adding" in result["network"]["here"]:
            setting = each["setting"]
            gradient = gradient_of(each, result["network"]["here"])
            rows = setting["batch"], setting["tokens"] // setting["batch"]
            found.append(Node(setting["name"], *rows, Compute(**measured["fit"]), gradient))
    return found


def efficiencies(node: Node, gigabits: int, passes: int, **how: Any) -> list[float]:
    """For each of NODES: of one node's speed, what each does, with ``passes`` passes of the setting's batch."""
    given = {"rows": node.rows, "passes": passes, **how}
    return [efficiency(count, node.compute, node.gradient, link(gigabits), **given) for count in NODES]


def batches(node: Node, gigabits: int, **how: Any) -> list[int | None]:
    """For each of NODES the fewest sequences a node and step, in whole passes of the setting's batch, with an
    efficiency of GOAL: with a smaller batch it is less. None: no batch has it."""
    of = node.compute, node.gradient, link(gigabits)
    least = [least_passes(count, *of, goal=GOAL, rows=node.rows, **how) for count in NODES]
    return [None if passes is None else passes * node.rows for passes in least]
