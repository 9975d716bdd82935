"""The table of ``loopos eval --compare``: before and after, and how sure the difference is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from loopos.scoring.comparison import Difference, Scores, differences
from loopos.scoring.intervals import Interval

from .reply import Reply


class Scored(NamedTuple):
    """told: for --json; text: for a person; unit: what must be equal where two are compared."""

    scores: Scores
    told: dict[str, Any]
    text: str
    unit: Any


def share(value: float, interval: Interval) -> str:
    return f"{100 * value:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def table(models: Sequence[str], scored: Sequence[Scored]) -> Reply:
    """The first is what the others are compared with. ValueError when two did not read the same tokens."""
    first = scored[0]
    for folder, each in zip(models, scored, strict=True):
        if each.unit != first.unit:
            raise ValueError(
                f"{folder} reads the text as other tokens than {models[0]}, or in other windows, so their losses "
                "cannot be compared; give both the same tokenizer, and the same --seq-len"
            )
    found = [differences(first.scores, each.scores) for each in scored[1:]]
    names = [name for name in ("loss", "perplexity", "accuracy", "accuracy_norm") if name in first.told]
    rows = [["model", *names, "difference from the first"]]
    for folder, each, change in zip(models, scored, [[], *found], strict=True):
        numbers = [_number(name, each.told) for name in names]
        rows.append([folder, *numbers, "; ".join(map(_difference, change))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    told = {
        "metric": first.told["metric"],
        "models": [{"folder": folder} | each.told for folder, each in zip(models, scored, strict=True)],
        "differences": [
            {"folder": folder} | {each.name: {"value": each.value, "interval": each.interval} for each in change}
            for folder, change in zip(models[1:], found, strict=True)
        ],
        "difference_method": found[0][0].method,
    }
    return Reply(told, "\n".join([*lines, f"intervals of differences: {found[0][0].method}"]))


def _number(name: str, told: dict[str, Any]) -> str:
    if name in ("loss", "perplexity"):
        return f"{told[name]:.4f}"
    return share(told[name], told["interval" if name == "accuracy" else "interval_norm"])


def _difference(change: Difference) -> str:
    low, high = change.interval
    if change.name == "loss":
        return f"{change.value:+.4f} ({low:+.4f} to {high:+.4f})"
    return f"{change.name} {100 * change.value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
