"""What tables of results are made of: columns for a terminal or Markdown, numbers, the machine in a sentence."""

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


def same_losses(apart: float) -> str:
    return f"losses of the same steps differ by at most {apart:.1e} of themselves"


def sizes(setting: dict[str, Any]) -> str:
    config = setting["config"]
    if "pictures" in setting:
        return _picture_sizes(config, setting["batch"])
    heads = str(config["n_head"])
    if config["n_kv_head"] != config["n_head"]:
        heads += f" ({config['n_kv_head']} key/value)"
    return (
        f"V {config['vocab_size']}, T {config['context_length']}, layers {config['n_layer']}, heads {heads}, "
        f"C {config['d_model']}, B {setting['batch']}"
    )


def _picture_sizes(config: dict[str, Any], batch: int) -> str:
    seen = config.get("encoder", config)
    height, width = seen["image_size"]
    text = f"{height} x {width} pixels, patches of {seen['patch_size']}, {_blocks(seen)}"
    if "decoder" in config:
        decoder = config["decoder"]
        text += f"; decoder: V {decoder['vocab_size']}, T {decoder['context_length']}, {_blocks(decoder)}"
    else:
        text += f", classes {seen['num_classes']}"
    return f"{text}; B {batch}"


def _blocks(config: dict[str, Any]) -> str:
    return f"layers {config['n_layer']}, heads {config['n_head']}, C {config['d_model']}"


def join(parts: Sequence[str], markdown: bool) -> str:
    return ("\n\n" if markdown else "\n").join(parts)
