"""The tables of `loopos bench steps` and `loopos bench ops`: engines side by side, ours in every precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import precisions
from .cells import GIGA, MEBI, absences, heading, join, limits, milliseconds, number, percent, same_losses, sizes, table


def step_header(what: str) -> list[str]:
    """what: a step goes through."""
    return [
        *("engine", "ms/step", "min–max", f"{what}/s", "GFLOP/s", "of peak", "peak RSS", "first loss"),
        "their/our time",
    ]


def steps(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench steps` and `loopos bench pictures`: a table for each setting, then the ratios of
    all."""
    blocks = _products_used(result)
    for each in result["settings"]:
        ours = [peer["seconds"]["median"] for peer in each["peers"] if peer["peer"] == "loopos"]
        what = "pictures" if "pictures" in each["setting"] else "tokens"
        rows = [_step_row(peer, what, ours[0] if ours else None) for peer in each["peers"]]
        work = number(each["flops"]["total"] / GIGA)
        title = f"{each['setting']['name']}: {sizes(each['setting'])}, {work} GFLOP a step"
        notes = [*map(limits, each["limits"]), *absences(each["absent"])]
        if each.get("loss_difference") is not None:
            notes.insert(0, same_losses(each["loss_difference"]))
        body = [table(step_header(what), rows, markdown)] if rows else []
        blocks.append(join([heading(title, markdown), *body, *notes], markdown))
    return [*blocks, join([ABOUT_SUMMARY, table(*summary(result), markdown)], markdown)]


ABOUT_SUMMARY = (
    "How many times as fast as PyTorch a step of LoopOS is (medians of one run), and its peak RSS as a share of "
    "PyTorch's. float32 and bf16x3 stand beside the better of PyTorch eager and compiled in float32, bf16 beside the "
    "better of autocast to bfloat16 and float32 products of precision medium:"
)
AGAINST = {
    "float32": "PyTorch float32",
    "bf16x3": "PyTorch float32",
    "bf16": "the better of PyTorch autocast and medium",
}


def summary(result: dict[str, Any], field: str = "median", memory: bool = True) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the ratios to PyTorch, a column for each setting, a row for each precision that was measured.
    field: of the step times; memory: rows of the peaks, too."""
    found = result["settings"]
    names = {peer["peer"] for each in found for peer in each["peers"]}
    measured = [each for each in precisions.PRECISIONS if precisions.OURS[each] in names]
    rows = [
        [f"{each} over {AGAINST[each]}", *_ratios(found, each, lambda peer: peer["seconds"][field])]
        for each in measured
    ]
    if memory:
        for each in measured:
            shares = [precisions.beside(one["peers"], each, lambda peer: peer["peak_rss"]) for one in found]
            cells = [number(1 / share if share else None) for share in shares]
            rows.append([f"peak RSS, {each} over {AGAINST[each].replace('better', 'lesser')}", *cells])
    return ["", *[each["setting"]["name"] for each in found]], rows


def _ratios(settings: Sequence[dict[str, Any]], precision: str, figure: Callable[[dict[str, Any]], float]) -> list[str]:
    return [number(precisions.beside(each["peers"], precision, figure)) for each in settings]


def _products_used(result: dict[str, Any]) -> list[str]:
    """What the products were computed with; results from before there were precisions do not tell."""
    return [precisions.sentence(result["precisions"])] if "precisions" in result else []


def _step_row(peer: dict[str, Any], what: str, ours: float | None) -> list[str]:
    return [
        peer["engine"],
        *milliseconds(peer["seconds"]),
        number(peer[f"{what}_per_second"]),
        number(peer["flops_per_second"] / GIGA),
        percent(peer["fraction_of_peak"]),
        f"{peer['peak_rss'] / MEBI:,.0f} MiB",
        f"{peer['first_loss']:.3f}",
        number(peer["seconds"]["median"] / ours if ours else None),
    ]


def ops(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench ops`: a table for each setting and direction, the engines side by side; then the
    matrix products of each setting in every precision, and of all settings."""
    engines = list(dict.fromkeys(peer["peer"] for each in result["operations"] for peer in each["peers"]))
    columns = [f"{name} {what}" for name in engines for what in ("µs", "GFLOP/s", "GB/s", "of limit")]
    header = ["operation", "shape", "limit", *columns, "torch / loopos"]
    blocks = _products_used(result)
    blocks += [join([*map(limits, result["limits"]), *absences(result["absent"])], markdown)]
    groups: dict[tuple[str, str], list[list[str]]] = {}
    for each in result["operations"]:
        groups.setdefault((each["setting"], each["direction"]), []).append(_op_row(each, engines))
    for (setting, direction), rows in groups.items():
        blocks.append(join([heading(f"{setting}, {direction}", markdown), table(header, rows, markdown)], markdown))
    return blocks + _products(result, markdown)


def _products(result: dict[str, Any], markdown: bool) -> list[str]:
    """GFLOP/s of each product and engine, a table for each setting; then those of its linear layers together."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in result.get("products", []):
        groups.setdefault(each["setting"], []).append(each)
    engines = list(result["engines"])
    header = ["product", "shape", *[f"{name} GFLOP/s" for name in engines], *[f"{a} / {b}" for a, b in PAIRS]]
    blocks, rates, best = [], {}, {}
    for setting, found in groups.items():
        rows = [_product_row(each, engines) for each in found]
        title = heading(f"{setting}, matrix products", markdown)
        blocks.append(join([title, table(header, rows, markdown)], markdown))
        rates[setting], best[setting] = product_rates(found, "median"), product_rates(found, "min")
    if rates:
        rows = [
            [f"{name}{of}", *[number(each[name] / GIGA if name in each else None) for each in found.values()]]
            for found, of in ((rates, ""), (best, ", least times"))
            for name in engines
        ]
        about = "All products of the linear layers together, GFLOP/s (medians; packing and allocation included):"
        blocks.append(join([about, table(["", *rates], rows, markdown)], markdown))
    return blocks


PAIRS = (("loopos-bf16x3", "torch"), ("loopos-bf16", "torch-medium"), ("loopos-bf16", "torch-bfloat16"))


def product_rates(products: Sequence[dict[str, Any]], field: str) -> dict[str, float]:
    """The floating-point operations of the linear layers' products over the times that they take (field: "median" or
    "min"), for each engine that did all of them; attention is none of them."""
    linear = [each for each in products if not each["operation"].startswith("attention")]
    seconds: dict[str, list[float]] = {}
    for each in linear:
        for peer in each["peers"]:
            seconds.setdefault(peer["peer"], []).append(peer["seconds"][field])
    work = sum(each["flops"] for each in linear)
    return {name: work / sum(times) for name, times in seconds.items() if len(times) == len(linear)}


def _product_row(each: dict[str, Any], engines: Sequence[str]) -> list[str]:
    speeds = {peer["peer"]: peer["flops_per_second"] for peer in each["peers"]}
    name = each["operation"] if each["direction"] == "forward" else f"{each['operation']} {each['direction']}"
    cells = [number(speeds[engine] / GIGA if engine in speeds else None) for engine in engines]
    pairs = [number(speeds[a] / speeds[b] if {a, b} <= speeds.keys() else None) for a, b in PAIRS]
    return [name, each["shape"], *cells, *pairs]


def _op_row(each: dict[str, Any], engines: Sequence[str]) -> list[str]:
    peers = {peer["peer"]: peer for peer in each["peers"]}
    cells = [each["operation"], each["shape"], each["limit"]]
    for name in engines:
        peer = peers.get(name)
        if peer is None:
            cells += ["-"] * 4
            continue
        flops = number(peer["flops_per_second"] / GIGA) if each["flops"] else "-"
        cells += [number(1e6 * peer["seconds"]["median"]), flops]
        cells += [number(peer["bytes_per_second"] / GIGA), percent(peer["fraction_of_limit"])]
    medians = {name: peer["seconds"]["median"] for name, peer in peers.items()}
    return [*cells, number(medians["torch"] / medians["loopos"] if {"torch", "loopos"} <= medians.keys() else None)]
