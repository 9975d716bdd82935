"""Results as a picture. matplotlib is imported when one is asked for."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from typing import Any

from . import precisions
from .steps import median as steps_median

COLOURS = {
    "loopos": "#c8553d",
    "loopos-bf16x3": "#dd8d78",
    "loopos-bf16": "#edbfb2",
    "loopos-fast": "#dd8d78",
    "torch": "#4f6d7a",
    "loopos-wire": "#edbfb2",
    "loopos-zero": "#a8442f",
    "torch-ddp": "#4f6d7a",
    "torch-medium": "#6f8794",
    "torch-autocast": "#a9bdc7",
    "torch-bfloat16": "#a9bdc7",
    "torch-compiled": "#8ba6b3",
    "jax": "#b8b08d",
    "transformers": "#4f6d7a",
    "loopos-bfloat16": "#dd8d78",
    "loopos-int8": "#edbfb2",
    "loopos-int4": "#f6dfd8",
    "llama.cpp-f16": "#5b7553",
    "llama.cpp-q8_0": "#9db38f",
    "loopos-lora": "#a8442f",
    "loopos-rslora": "#b35a47",
    "loopos-dora": "#be7160",
    "loopos-lora-bf16x3": "#b5651d",
    "loopos-lora-bfloat16": "#dd8d78",
    "loopos-lora-bfloat16-bf16": "#e3a857",
    "loopos-lora-int8": "#edbfb2",
    "loopos-lora-int4": "#f3d6cd",
    "peft": "#6b5876",
    "peft-bfloat16": "#a394ab",
}


def require() -> None:
    """ValueError, in a sentence, when there is no matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("plot: matplotlib is not installed; pip install matplotlib, or leave --plot out")


def draw(result: dict[str, Any], path: str) -> None:
    """Write a picture of the result of any suite to ``path``, in the format that its ending names."""
    require()
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    SUITES[result["suite"]](result, figure)
    figure.savefig(path, dpi=120)


def _bars(axes: Any, groups: Sequence[str], heights: dict[str, list[float | None]]) -> None:
    """A group of bars for each of ``groups``, one bar for each engine; None leaves a gap."""
    width = 0.8 / max(1, len(heights))
    for number, (engine, values) in enumerate(heights.items()):
        places = [at + (number + 0.5) * width - 0.4 for at in range(len(groups))]
        shown = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
        axes.bar([p for p, _ in shown], [v for _, v in shown], width * 0.92, label=engine, color=COLOURS[engine])
    axes.set_xticks(range(len(groups)), groups)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _by_engine(items: Sequence[dict[str, Any]], field: str, scale: float = 1) -> dict[str, list[float | None]]:
    """The values of a field for each engine that appears anywhere, in order of appearance."""
    engines = dict.fromkeys(peer["peer"] for each in items for peer in each["peers"])
    found = [{peer["peer"]: scale * peer[field] for peer in each["peers"]} for each in items]
    return {engine: [values.get(engine) for values in found] for engine in engines}


def steps(result: dict[str, Any], figure: Any) -> None:
    """Share of the multiply-add peak for each setting and engine; under each name the ratio to PyTorch of each
    precision that was measured."""
    figure.set_size_inches(max(7.5, 1.5 + 1.7 * len(result["settings"])), 4.6)
    axes = figure.subplots()
    names = []
    for each in result["settings"]:
        ratios = [precisions.beside(each["peers"], name, steps_median) for name in precisions.PRECISIONS]
        told = " / ".join(f"{ratio:.2f}" for ratio in ratios if ratio is not None)
        names.append(each["setting"]["name"] + (f"\n× {told}" if told else ""))
    _bars(axes, names, _by_engine(result["settings"], "fraction_of_peak", 100))
    axes.set_ylabel("% of the multiply-add peak")
    axes.set_title(
        "A training step (×: PyTorch's step time over that of LoopOS, in float32 / bf16x3 / bf16, where measured)",
        fontsize=10,
    )


def ops(result: dict[str, Any], figure: Any) -> None:
    """Share of the relevant limit, a panel for each setting and direction, and one for the matrix products of each
    setting, whose limit is that of multiply-adds: tiles exceed it."""
    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in result.get("products", []):
        panels.setdefault((each["setting"], "matrix products"), []).append(each)
    for each in result["operations"]:
        panels.setdefault((each["setting"], each["direction"]), []).append(each)
    figure.set_size_inches(11, 3.4 * max(1, len(panels)))
    column = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, ((setting, direction), items) in zip(column, panels.items(), strict=True):
        names = [each["operation"].replace(" (", "\n(") for each in items]
        _bars(axes, names, _by_engine(items, "fraction_of_limit", 100))
        axes.tick_params(axis="x", labelsize=8)
        axes.set_ylabel("% of the limit")
        axes.set_title(f"{setting}, {direction}", fontsize=11)


def scaling(result: dict[str, Any], figure: Any) -> None:
    """Speed-up by threads; milliseconds a GFLOP by length and by size: level where cost grows as the arithmetic."""
    series = result["series"]
    figure.set_size_inches(13, 4.2)
    threads, length, size = figure.subplots(1, 3)
    for style, each in zip(itertools.cycle(("-", "--", ":", "-.")), series["threads"], strict=False):
        for engine in dict.fromkeys(peer["peer"] for peer in each["peers"]):
            points = sorted((p["threads"], p["seconds"]["median"]) for p in each["peers"] if p["peer"] == engine)
            label = f"{engine}, {each['setting']['name']}"
            x, y = [n for n, _ in points], [points[0][1] / seconds for _, seconds in points]
            threads.plot(x, y, marker="o", label=label, color=COLOURS[engine], linestyle=style)
            threads.set_xticks(x)
    threads.set_xlabel("threads")
    threads.set_ylabel("one thread's time / theirs")
    for axes, points, what in ((length, series["length"], "context_length"), (size, series["size"], "d_model")):
        for engine in dict.fromkeys(peer["peer"] for each in points for peer in each["peers"]):
            found = [(each, peer) for each in points for peer in each["peers"] if peer["peer"] == engine]
            x = [each["setting"]["config"][what] for each, _ in found]
            y = [1e12 * peer["seconds"]["median"] / each["flops"]["total"] for each, peer in found]
            axes.plot(x, y, marker="o", label=engine, color=COLOURS[engine])
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(what)
        axes.set_ylabel("ms a GFLOP")
    for axes in (threads, length, size):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)


def generate(result: dict[str, Any], figure: Any) -> None:
    figure.set_size_inches(3 + 1.5 * len(result["settings"]), 4.2)
    axes = figure.subplots()
    names = [each["setting"]["name"] for each in result["settings"]]
    _bars(axes, names, _by_engine(result["settings"], "tokens_per_second"))
    axes.set_yscale("log")
    axes.set_ylabel("tokens a second")
    axes.set_title(f"Greedy generation of {result['new_tokens']} tokens, batch 1", fontsize=11)


def real(result: dict[str, Any], figure: Any) -> None:
    """Tokens a second of each part, and what opening takes: a panel each, a bar for each engine."""
    figure.set_size_inches(13, 4.2)
    for axes, (part, each) in zip(figure.subplots(1, len(result["parts"])), result["parts"].items(), strict=True):
        opening = part == "opening"
        values = [peer["seconds"]["median"] if opening else peer["tokens_per_second"] for peer in each["peers"]]
        _one_each(axes, each["peers"], values, "seconds" if opening else "tokens a second")
        axes.set_title(part, fontsize=11)
    figure.suptitle(result["model"]["name"])


def adapters(result: dict[str, Any], figure: Any) -> None:
    """Tokens a second, and memory at the peak: a panel each, a bar for each engine."""
    figure.set_size_inches(10, 4.2)
    speed, memory = figure.subplots(1, 2)
    _one_each(speed, result["peers"], [peer["tokens_per_second"] for peer in result["peers"]], "tokens a second")
    _one_each(memory, result["peers"], [peer["peak_rss"] / 1e9 for peer in result["peers"]], "GB at the peak")
    figure.suptitle(result["model"]["name"])


def ranks(result: dict[str, Any], figure: Any) -> None:
    """Tokens a second of several ranks, over those of one process of LoopOS with as many threads."""
    figure.set_size_inches(max(7.5, 1.5 + 1.7 * len(result["settings"])), 4.2)
    axes = figure.subplots()
    alone = [
        [peer for peer in each["peers"] if peer["ranks"] == 1 and peer["peer"] == "loopos"]
        for each in result["settings"]
    ]
    items = [
        {
            "peers": [
                peer | {"of_one": peer["tokens_per_second"] / one[0]["tokens_per_second"]}
                for peer in each["peers"]
                if peer["ranks"] > 1
            ]
        }
        for each, one in zip(result["settings"], alone, strict=True)
        if one
    ]
    names = [each["setting"]["name"] for each, one in zip(result["settings"], alone, strict=True) if one]
    _bars(axes, names, _by_engine(items, "of_one"))
    axes.set_ylabel("of one process of LoopOS")
    axes.set_title("Tokens a second of ranks with a thread each", fontsize=11)


def _one_each(axes: Any, peers: Sequence[dict[str, Any]], values: Sequence[float], what: str) -> None:
    names = [peer["peer"] for peer in peers]
    axes.barh(names, values, color=[COLOURS[name] for name in names])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(what)


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
