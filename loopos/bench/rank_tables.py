"""The tables of `loopos bench ranks`: what was measured, the model beside it, and what the model says of more nodes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from . import projection
from .cells import GIGA, MEBI, heading, join, milliseconds, number, percent, sizes, table

ROWS = (  # title; of which peer and its ranks (0: as many as were measured) over which other; what
    ("LoopOS over DDP, tokens/s", ("loopos", 0), ("torch-ddp", 0), "tokens_per_second"),
    ("LoopOS, fast reduction, over DDP, tokens/s", ("loopos-fast", 0), ("torch-ddp", 0), "tokens_per_second"),
    ("LoopOS, bfloat16 on the wire, over DDP, tokens/s", ("loopos-wire", 0), ("torch-ddp", 0), "tokens_per_second"),
    ("LoopOS, optimizer sharded, over DDP, tokens/s", ("loopos-zero", 0), ("torch-ddp", 0), "tokens_per_second"),
    ("LoopOS over DDP, peak RSS", ("loopos", 0), ("torch-ddp", 0), "peak_rss"),
    ("LoopOS, optimizer sharded, over DDP, peak RSS", ("loopos-zero", 0), ("torch-ddp", 0), "peak_rss"),
    ("LoopOS, ranks over one process, tokens/s", ("loopos", 0), ("loopos", 1), "tokens_per_second"),
    ("LoopOS, fast reduction, over one process", ("loopos-fast", 0), ("loopos", 1), "tokens_per_second"),
    ("PyTorch, ranks over one process, tokens/s", ("torch-ddp", 0), ("torch-ddp", 1), "tokens_per_second"),
)


KINDS = {"loopos": ", tree", "loopos-fast": ", fast", "loopos-wire": ", bfloat16 wire", "loopos-zero": ", ZeRO-1"}
SHOWN = 3  # sizes of sums, the largest ones


def ranks(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench ranks`."""
    blocks = [*busy(result), *[_steps(each, markdown) for each in result["settings"]]]
    blocks += [summary(result, markdown), *network(result, markdown), *filter(None, [check(result, markdown)])]
    return [*blocks, *projected(result, markdown)]


QUIET = 0.5  # programs that want a core, in the mean of the minute before


def busy(result: dict[str, Any]) -> list[str]:
    """A sentence where other programs had the cores, too."""
    if result["load"] <= QUIET:
        return []
    return [
        f"**The machine was busy**: {number(result['load'])} other programs wanted its {result['machine']['cores']} "
        "cores when this began. Ranks that wait for each other, and PyTorch's threads, lose more by that than one "
        "process does; the figures show that it runs, and not how fast."
    ]


def _steps(each: dict[str, Any], markdown: bool) -> str:
    header = ["engine", "ranks x threads", "ms/step", "min–max", "tokens/s", "without reduction, ms", "communication"]
    rows = []
    for peer in each["peers"]:
        alone = peer.get("without_reduction")
        kind = KINDS.get(peer["peer"], "") if peer["ranks"] > 1 else ""
        rows.append(
            [
                peer["engine"] + kind,
                f"{peer['ranks']} x {peer['threads']}",
                *milliseconds(peer["seconds"]),
                number(peer["tokens_per_second"]),
                number(1e3 * alone["median"] if alone else None),
                percent(max(0.0, peer["communication"])) if alone else "-",
                f"{peer['peak_rss'] / MEBI:,.0f} MiB",
            ]
        )
    notes = [f"absent: {x['peer']}, {x['ranks']} x {x['threads']} ({x['reason']})" for x in each["absent"]]
    trained = each["peers"][0]["trained"] if each["peers"] else 0
    title = f"{each['setting']['name']}: {sizes(each['setting'])}, {trained:,} parameters trained"
    body = [table([*header, "peak RSS"], rows, markdown)] if rows else []
    return join([heading(title, markdown), *body, *notes], markdown)


def _value(each: dict[str, Any], who: tuple[str, int], what: str) -> float | None:
    name, count = who
    for peer in each["peers"]:
        if peer["peer"] == name and (peer["ranks"] == count if count else peer["ranks"] > 1):
            return peer[what]
    return None


def summary(result: dict[str, Any], markdown: bool) -> str:
    """Ratios, a column for each setting; and the share of a step that is communication. Of engines that were asked
    for."""
    rows = []
    asked = {peer["peer"] for each in result["settings"] for peer in (*each["peers"], *each["absent"])}
    for title, ours, theirs, what in ROWS:
        if ours[0] not in asked:
            continue
        pairs = [(_value(each, ours, what), _value(each, theirs, what)) for each in result["settings"]]
        rows.append([title, *[number(a / b if a and b else None) for a, b in pairs]])
    for title, who in (
        ("LoopOS", "loopos"),
        ("LoopOS, fast reduction", "loopos-fast"),
        ("LoopOS, bfloat16 on the wire", "loopos-wire"),
        ("LoopOS, optimizer sharded", "loopos-zero"),
        ("DDP", "torch-ddp"),
    ):
        if who not in asked:
            continue
        shares = [_value(each, (who, 0), "communication") for each in result["settings"]]
        rows.append([f"communication, {title}", *["-" if s is None else percent(max(0.0, s)) for s in shares]])
    about = (
        "Ranks of one thread each, beside one process with as many threads; medians. Communication is the share by "
        "which a step is longer than without reduction:"
    )
    return join(
        [about, table(["", *[each["setting"]["name"] for each in result["settings"]]], rows, markdown)], markdown
    )


def network(result: dict[str, Any], markdown: bool) -> list[str]:
    """What the links do: messages in a sentence, sums in a table."""
    found = [("memory", result["network"]["here"])]
    if result["network"]["slow"] is not None:
        found.append((f"{result['slow']['gigabits']:g} Gbit/s between two namespaces", result["network"]["slow"]))
    parts = [heading("The links", markdown)]
    for name, each in found:
        if each["link"] is not None:
            latency, speed = number(1e6 * each["link"]["latency"]), number(each["link"]["bandwidth"] / GIGA)
            parts.append(
                f"{name}: a message of MPI takes {latency} µs and carries {speed} GB/s; sums over 2 ranks, ms:"
            )
        libraries = [library for library in ("mpi", "gloo") if library in each]
        if libraries:
            header = ["", *[f"{size / MEBI:g} MiB" for size, _ in each[libraries[0]]["sums"][-SHOWN:]]]
            rows = [[library, *[number(1e3 * s) for _, s in each[library]["sums"][-SHOWN:]]] for library in libraries]
            parts.append(table(header, rows, markdown))
        parts += [f"absent: {missing['peer']} ({missing['reason']})" for missing in each["absent"]]
    if "absent" in result["slow"]:
        parts.append(f"no slow link: {result['slow']['absent']}")
    return [join(parts, markdown)]


def _title(text: str, markdown: bool, level: int) -> str:
    return f"{'#' * level} {text}" if markdown else text


def check(result: dict[str, Any], markdown: bool, level: int = 3) -> str:
    """The model beside every measured step of several ranks; empty where there is none."""
    found = projection.checks(result)
    if not found:
        return ""
    rows = [
        [
            each.setting,
            each.link,
            each.reduction,
            number(1e3 * each.measured),
            number(1e3 * each.model.seconds),
            f"{'+' if each.off > 0 else ''}{percent(each.off)}",
            number(1e3 * each.model.compute),
            number(1e3 * (each.model.exposed + each.model.coding)),
        ]
        for each in found
    ]
    header = ["setting", "link", "reduction", "measured ms", "model ms", "off", "computing", "reduction, ms"]
    worst = max(found, key=lambda each: abs(each.off))
    typical = statistics.median(abs(each.off) for each in found)
    said = (
        f"The model is off by {percent(typical)} in the median and by {percent(abs(worst.off))} at worst "
        f"({worst.setting}, {worst.link}, {worst.reduction})."
    )
    title = _title("The model beside measured steps", markdown, level)
    return join([title, table(header, rows, markdown), said], markdown)


def projected(result: dict[str, Any], markdown: bool, level: int = 3, short: bool = False) -> list[str]:
    """Computed, not measured: efficiency and least batches for up to 1,024 nodes like this machine. short: the
    efficiency with the most passes alone, and the batches of the tree as it is and with everything hidden."""
    found = projection.nodes(result)
    if not found:
        return []
    blocks = []
    for passes in projection.PASSES[-1:] if short else projection.PASSES:
        what = "one pass" if passes == 1 else f"{passes} passes"
        title = f"Computed: efficiency of nodes that each make {what} of the setting's batch a step (tree, no overlap)"
        blocks.append(_by_nodes(title, found, lambda *at, n=passes: _shares(*at, n), markdown, level))
    for name, how in VARIANTS:
        if short and how and "overlap" not in how:
            continue
        known = [node for node in found if "wire" not in how or node.gradient.rounding]
        if not known:
            continue
        title = f"Computed: tokens of a node and step below which its efficiency falls under 80 % ({name})"
        blocks.append(_by_nodes(title, known, lambda *at, how=how: _tokens(*at, how), markdown, level))
    return blocks


VARIANTS: Sequence[tuple[str, dict[str, Any]]] = (
    ("tree, no overlap", {}),
    ("fast reduction, no overlap", {"reduction": "fast"}),
    ("bfloat16 on the wire, no overlap", {"wire": projection.WIRE}),
    ("tree, optimizer sharded, no overlap", {"sharded_update": True}),
    ("tree, all that can hides behind backward", {"overlap": 1.0}),
)


def _by_nodes(title: str, found: list[Any], cells: Callable[..., list[str]], markdown: bool, level: int) -> str:
    """A row for each node and link, a column for each number of nodes."""
    rows = [[f"{node.name}, {speed} Gbit/s", *cells(node, speed)] for node in found for speed in projection.LINKS]
    header = ["nodes", *[f"{count:,}" for count in projection.NODES]]
    return join([_title(title, markdown, level), table(header, rows, markdown)], markdown)


def _shares(node: projection.Node, gigabits: int, passes: int) -> list[str]:
    return [percent(share) for share in projection.efficiencies(node, gigabits, passes)]


def _tokens(node: projection.Node, gigabits: int, how: dict[str, Any]) -> list[str]:
    least = projection.batches(node, gigabits, **how)
    return ["-" if rows is None else f"{rows * node.tokens:,}" for rows in least]
