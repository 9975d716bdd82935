"""Results as text: columns for a terminal, or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

GIGA = 1e9
MEBI = 1 << 20


def table(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """``rows`` under ``header``; the first column is words, the others are numbers and stand to the right."""
    if markdown:
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    lines = []
    for line in (header, *rows):
        cells = [line[0].ljust(widths[0])] + [
            cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Three digits that count, no exponent; a dash for None."""
    if value is None:
        return "-"
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    """Decimals that show three digits of a number below 10."""
    decimals = 2
    while 0 < abs(value) < 10 ** (1 - decimals) and decimals < 6:
        decimals += 1
    return decimals


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"


def milliseconds(seconds: dict[str, float]) -> list[str]:
    """Median, and least to most."""
    return [number(1e3 * seconds["median"]), f"{number(1e3 * seconds['min'])}–{number(1e3 * seconds['max'])}"]


def limits(result: dict[str, Any]) -> str:
    """The machine's limits in a sentence."""
    peak, memory, stolen = result["flops_per_second"], result["bytes_per_second"], result.get("stolen")
    taken = f"; {100 * stolen:.0f} % of the time went to other machines" if stolen is not None else ""
    return (
        f"threads {result['threads']}: multiply-add peak {_giga(peak)} GFLOP/s, memory {_giga(memory)} GB/s "
        f"(y = a + b, {result['array_bytes'] / MEBI:.0f} MiB each){taken}"
    )


def _giga(values: dict[str, float]) -> str:
    median, least, most = (number(values[key] / GIGA) for key in ("median", "min", "max"))
    return f"{median} ({least}–{most})"


def absences(absent: Sequence[dict[str, str]]) -> list[str]:
    return [f"absent: {each['peer']} ({each['reason']})" for each in absent]


def heading(text: str, markdown: bool) -> str:
    return f"### {text}" if markdown else text


def machine(result: dict[str, Any]) -> str:
    """The machine and the run in a sentence or two."""
    about = result["machine"]
    cores = f"{about['cores']} core{'s' if about['cores'] != 1 else ''}"
    cache = f", last-level cache {about['last_level_cache'] / MEBI:.0f} MiB" if about["last_level_cache"] else ""
    return (
        f"{about['processor']}, {cores}{cache}, {about['system']}; Python {about['python']}, numpy {about['numpy']}, "
        f"LoopOS {about['loopos']} ({about['isa']}). {result['threads']} thread{'s' if result['threads'] != 1 else ''}."
    )


STEP_HEADER = (
    "engine",
    "ms/step",
    "min–max",
    "tokens/s",
    "GFLOP/s",
    "of peak",
    "peak RSS",
    "first loss",
    "their/our time",
)


def steps(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench steps`: a table for each setting, then the ratios of all."""
    blocks = []
    for each in result["settings"]:
        ours = [peer["seconds"]["median"] for peer in each["peers"] if peer["peer"] == "loopos"]
        rows = [_step_row(peer, ours[0] if ours else None) for peer in each["peers"]]
        work = number(each["flops"]["total"] / GIGA)
        title = f"{each['setting']['name']}: {_sizes(each['setting'])}, {work} GFLOP a step"
        notes = [*map(limits, each["limits"]), *absences(each["absent"])]
        body = [table(STEP_HEADER, rows, markdown)] if rows else []
        blocks.append(_join([heading(title, markdown), *body, *notes], markdown))
    named = [(each["setting"]["name"], each["ratio"]) for each in result["settings"]]
    ratios = table(
        ["", *[name for name, _ in named]], [["torch / loopos", *[number(value) for _, value in named]]], markdown
    )
    about = "Step time of PyTorch, the better of eager and compiled, over that of LoopOS (medians of one run):"
    return [*blocks, _join([about, ratios], markdown)]


def _step_row(peer: dict[str, Any], ours: float | None) -> list[str]:
    return [
        peer["engine"],
        *milliseconds(peer["seconds"]),
        number(peer["tokens_per_second"]),
        number(peer["flops_per_second"] / GIGA),
        percent(peer["fraction_of_peak"]),
        f"{peer['peak_rss'] / MEBI:,.0f} MiB",
        f"{peer['first_loss']:.3f}",
        number(peer["seconds"]["median"] / ours if ours else None),
    ]


def _sizes(setting: dict[str, Any]) -> str:
    config = setting["config"]
    heads = str(config["n_head"])
    if config["n_kv_head"] != config["n_head"]:
        heads += f" ({config['n_kv_head']} key/value)"
    return (
        f"V {config['vocab_size']}, T {config['context_length']}, layers {config['n_layer']}, heads {heads}, "
        f"C {config['d_model']}, B {setting['batch']}"
    )


def _join(parts: Sequence[str], markdown: bool) -> str:
    return ("\n\n" if markdown else "\n").join(parts)


def ops(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench ops`: a table for each setting and direction, the engines side by side."""
    engines = list(result["engines"])
    columns = [f"{name} {what}" for name in engines for what in ("µs", "GFLOP/s", "GB/s", "of limit")]
    header = ["operation", "shape", "limit", *columns, "torch / loopos"]
    blocks = [_join([*map(limits, result["limits"]), *absences(result["absent"])], markdown)]
    groups: dict[tuple[str, str], list[list[str]]] = {}
    for each in result["operations"]:
        groups.setdefault((each["setting"], each["direction"]), []).append(_op_row(each, engines))
    for (setting, direction), rows in groups.items():
        blocks.append(_join([heading(f"{setting}, {direction}", markdown), table(header, rows, markdown)], markdown))
    return blocks


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


def scaling(result: dict[str, Any], markdown: bool) -> list[str]:
    """Blocks of text for `loopos bench scaling`."""
    series = result["series"]
    blocks = [_threads_table(each, markdown) for each in series["threads"]]
    for name, title in (("length", "Length of a sequence, at a fixed number of tokens"), ("size", "Size of the model")):
        blocks.append(_join([heading(title, markdown), _growth_table(series[name], markdown)], markdown))
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
    title = heading(f"Threads, {each['setting']['name']}: {_sizes(each['setting'])}", markdown)
    return _join([title, table(header, rows, markdown), *map(limits, each["limits"])], markdown)


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
    return [_join([about, table(header, rows, markdown), *missing], markdown)]


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
            notes.insert(0, f"losses of the same steps differ by at most {each['loss_difference']:.1e} of themselves")
        body = [table(header, rows, markdown)] if rows else []
        blocks.append(_join([heading(titles[part], markdown), *body, *notes], markdown))
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
    blocks.append(_join([heading(title, markdown), *body, *absences(result["absent"])], markdown))
    return [*blocks, *map(limits, result["limits"])]


SUITES = {"steps": steps, "ops": ops, "scaling": scaling, "generate": generate, "real": real, "adapters": adapters}


def render(result: dict[str, Any], *, markdown: bool = False) -> str:
    """The whole result of a suite as text."""
    blocks = SUITES[result["suite"]](result, markdown)
    return "\n\n".join([machine(result), *blocks])
