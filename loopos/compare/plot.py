"""The curves of a comparison as a PNG, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
import io
import os
from pathlib import Path
from typing import Any

from loopos.files import durable
from loopos.health.report.charts import COLOURS

from .page import by_optimizer, over_steps
from .summary import Summary

PLOT = "comparison.png"
WIDE = 20  # times the lowest loss: above it the axis is logarithmic
PANELS = (("eval_loss", "held-out loss"), ("loss", "training loss"))


def write(summary: Summary, folder: str | os.PathLike, title: str) -> Path | None:
    """Held-out and training loss by update: mean and range over seeds. None without matplotlib. OSError when it cannot
    be written."""
    path = Path(folder) / PLOT
    if importlib.util.find_spec("matplotlib") is None:
        path.unlink(missing_ok=True)  # of an earlier call: it would show other curves than the page
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    figure.suptitle(title)
    for axes, (name, told) in zip(figure.subplots(1, 2), PANELS, strict=True):
        _draw(axes, summary, name)
        axes.set(xlabel="update", title=f"{told} (nats a {summary.unit}), mean and range over seeds")
        axes.title.set_fontsize(10)
    written = io.BytesIO()
    figure.savefig(written, dpi=110, format="png", metadata={"Software": None})
    durable.write_bytes(path, written.getvalue())
    return path


def _draw(axes: Any, summary: Summary, name: str) -> None:
    curves, bands = over_steps(by_optimizer(summary), name)
    finished = {row.optimizer for row in summary.rows if row.finished}
    for place, (optimizer, points) in enumerate(curves.items()):
        colour = COLOURS[place % len(COLOURS)]
        xs, ys = [x for x, _ in points], [float("nan") if y is None else y for _, y in points]
        label = optimizer if optimizer in finished else f"{optimizer} (ended)"
        axes.plot(xs, ys, marker="." if len(xs) < 2 else None, color=colour, label=label)
        if band := bands[optimizer]:
            x, low, high = zip(*band, strict=True)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    shown = [y for points in curves.values() for _, y in points if y is not None and y > 0]
    if shown and max(shown) > WIDE * min(shown):
        axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e8e8e8", linewidth=0.6)
    axes.legend(frameon=False)
