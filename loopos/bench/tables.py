"""Results as text: columns for a terminal, or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .cells import (
    GIGA,
    MEBI,
    absences,
    heading,
    join,
    limits,
    machine,
    milliseconds,
    number,
    percent,
    same_losses,
    sizes,
    table,
)
from .comparison import ops, steps
from .rank_tables import ranks


def scaling(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench scaling`."""
    series = result["series"]
    blocks = [_threads_table(each, markdown) for each in series["threads"]]
    for name, title in (("length", "Length of a sequence, at a fixed number of tokens"), ("size", "Size of the model")):
        blocks.append(join([heading(title, markdown), _growth_table(series[name], markdown)], markdown))
    return [*blocks, *absences(result["absent"])]


def _threads_table(each: dict[str, Any], markdown: bool) -> str:
    header = ("engine", "threads", "ms/step", "min–max", "GFLOP/s", "of their peak", "one thread's time / theirs")
    single = {peer["peer"]: peer["seconds"]["median"] for peer in each["peers"] if peer["threads"] == 1}
    rows = [
        [
            peer["engine"],
            str(peer["threads"]),
            *milliseconds(peer["seconds"]),
            number(peer["flops_per_second"] / GIGA),
            percent(peer["fraction_of_peak"]),
            number(single[peer["peer"]] / peer["seconds"]["median"] if peer["peer"] in single else None),
        ]
        for peer in each["peers"]
    ]
    title = heading(f"Threads, {each['setting']['name']}: {sizes(each['setting'])}", markdown)
    return join([title, table(header, rows, markdown), *map(limits, each["limits"])], markdown)


def _growth_table(points: Sequence[dict[str, Any]], markdown: bool) -> str:
    """Where the cost grows as the arithmetic says, the time of a GFLOP stays what it was at the first point."""
    header = ("", "sizes", "engine", "GFLOP a step", "ms/step", "ms/GFLOP", "of the first")
    rows: list[list[str]] = []
    first: dict[str, float] = {}
    for point in points:
        work = point["flops"]["total"] / GIGA
        for peer in point["peers"]:
            cost = 1e3 * peer["seconds"]["median"] / work
            share = cost / first.setdefault(peer["peer"], cost)
            sizes = f"{point['setting']['parameters']:,} parameters, B {point['setting']['batch']}"
            milli = number(1e3 * peer["seconds"]["median"])
            rows.append(
                [point["setting"]["name"], sizes, peer["peer"], number(work), milli, number(cost), number(share)]
            )
    return table(header, rows, markdown)


def generate(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench generate`."""
    header = ("model", "engine", "tokens/s", "ms", "min–max", "peak RSS", "same tokens", "their/our time")
    rows: list[list[str]] = []
    for each in result["settings"]:
        ours = next((peer["seconds"]["median"] for peer in each["peers"] if peer["peer"] == "loopos"), None)
        rows += [
            [
                each["setting"]["name"],
                peer["engine"],
                number(peer["tokens_per_second"]),
                *milliseconds(peer["seconds"]),
                f"{peer['peak_rss'] / MEBI:,.0f} MiB",
                f"{peer['agrees_for']} of {result['new_tokens']}",
                number(peer["seconds"]["median"] / ours if ours else None),
            ]
            for peer in each["peers"]
        ]
    about = f"Greedy, batch 1, {result['new_tokens']} tokens after a prompt of {result['prompt']}, random weights:"
    missing = {line: None for each in result["settings"] for line in absences(each["absent"])}
    return [join([about, table(header, rows, markdown), *missing], markdown)]


def real(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench real`: a table for each part, and what was not there."""
    work, model = result["workload"], result["model"]
    titles = {
        "training": f"Full fine-tuning in float32, a step of {work['batch']} × {work['length']} tokens",
        "generation": f"Greedy generation, one sequence: {work['new']} tokens behind one",
        "prompt": f"A prompt of {work['prompt']} tokens and the first token behind it",
        "opening": "Opening the model, from the start of the process",
    }
    blocks = [f"{model['name']}: {model['parameters']:,} parameters"]
    for part, each in result["parts"].items():
        header, rows = _real_table(part, each)
        notes = absences(each["absent"])
        if each.get("loss_difference") is not None:
            notes.insert(0, same_losses(each["loss_difference"]))
        body = [table(header, rows, markdown)] if rows else []
        blocks.append(join([heading(titles[part], markdown), *body, *notes], markdown))
    return [*blocks, *map(limits, result["limits"])]


def _real_table(part: str, each: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The others beside ours in float32."""
    ours = next((peer for peer in each["peers"] if peer["peer"] == "loopos"), None)
    header = ["engine", "weights", "tokens/s", "ms", "min–max", "peak RSS", "their/our time", "our/their RSS"]
    header += {"generation": ["of the bandwidth", "same tokens"], "training": ["first and last loss"]}.get(part, [])
    rows = []
    for peer in each["peers"]:
        row = [
            peer["engine"],
            peer["storage"],
            number(peer.get("tokens_per_second")),
            *milliseconds(peer["seconds"]),
            f"{peer['peak_rss'] / MEBI:,.0f} MiB",
            number(peer["seconds"]["median"] / ours["seconds"]["median"] if ours else None),
            number(ours["peak_rss"] / peer["peak_rss"] if ours else None),
        ]
        if part == "generation":
            row += [percent(peer["fraction_of_bandwidth"]), str(peer["agrees_for"])]
        if part == "training":
            row.append(f"{peer['losses'][0]:.4f} {peer['losses'][-1]:.4f}")
        rows.append(row)
    return header, rows


def adapters(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench adapters`: each way to train beside our full fine-tuning, and beside peft's on a
    base of the same type, or on its smallest."""
    work, model = result["workload"], result["model"]
    by_name = {peer["peer"]: peer for peer in result["peers"]}
    full = by_name.get("loopos")
    header = ("engine", "trains", "base", "tokens/s", "ms/step", "min–max", "peak RSS", "of full time", "of full RSS")
    header += ("of peft's RSS", "times peft's speed", "first and last loss")
    rows = []
    for peer in result["peers"]:
        other = "peft" if peer["storage"] == "float32" else "peft-bfloat16"  # the smallest that it has on a CPU
        theirs = by_name.get(other) if peer["adapter"] else None
        kinds = [name for name in ("rslora", "dora") if (peer["adapter"] or {}).get(name)]
        rows.append(
            [
                peer["engine"],
                f"{'+'.join(kinds) or 'LoRA'} {peer['adapter']['rank']}" if peer["adapter"] else "all",
                peer["storage"],
                number(peer["tokens_per_second"]),
                *milliseconds(peer["seconds"]),
                f"{peer['peak_rss'] / MEBI:,.0f} MiB",
                number(peer["seconds"]["median"] / full["seconds"]["median"] if full else None),
                number(peer["peak_rss"] / full["peak_rss"] if full else None),
                number(peer["peak_rss"] / theirs["peak_rss"] if theirs else None),
                number(theirs["seconds"]["median"] / peer["seconds"]["median"] if theirs else None),
                f"{peer['losses'][0]:.4f} {peer['losses'][-1]:.4f}",
            ]
        )
    title = f"Fine-tuning, a step of {work['batch']} × {work['length']} tokens"
    body = [table(header, rows, markdown)] if rows else []
    blocks = [f"{model['name']}: {model['parameters']:,} parameters"]
    blocks.append(join([heading(title, markdown), *body, *absences(result["absent"])], markdown))
    return [*blocks, *map(limits, result["limits"])]


SUITES = {
    "steps": steps,
    "ops": ops,
    "scaling": scaling,
    "generate": generate,
    "real": real,
    "adapters": adapters,
    "pictures": steps,
    "ranks": ranks,
}


def render(result: dict[str, Any], *, markdown: bool = False) -> str:
    """The whole result of a suite as text."""
    blocks = SUITES[result["suite"]](result, markdown)
    return "\n\n".join([machine(result), *blocks])
