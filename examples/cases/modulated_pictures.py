"""What modulated_adapter.py measured, as three pictures: SVG files, by the charts of `loopos report`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from loopos.health.report.charts import chart, picture

Curve = Sequence[float]


def growth(measured: Mapping[int, Mapping[str, tuple[Curve, Curve, Curve]]]) -> str:
    """measured: by number of layers and gate, from before the first layer on: the stream's size by the teacher's, how
    far it is from the teacher's, of its size, and what is left of a signal that the gates multiply one after another.
    """
    figures = []
    for layers, gates in measured.items():
        document = gates["document"]
        curves = {"sigmoid": gates["sigmoid"][0], "document": document[0], "gates alone": document[2]}
        points = {name: list(enumerate(curve)) for name, curve in curves.items()}
        points["off by"] = list(enumerate(document[1]))[1:]  # nothing before the first layer
        title = f"{layers} layers: size of the stream by the teacher's; document: off by, and its gates alone"
        figures.append(chart(title, points, logarithmic=True, x_name="layer"))
    return picture(figures)


def birth(small: Curve, large: Curve, updated: Curve, born: str) -> str:
    """The largest number after each layer, from before the first on; born: what the first that is not finite is."""
    curves = {"B_add 0.001": small, "B_add 3": large, "one update": updated}
    points = {name: list(enumerate(curve)) for name, curve in curves.items()}
    mark = next(layer for layer, size in enumerate(updated) if not math.isfinite(size))
    title = f"largest number after each layer, without norms; first not finite: {born}"
    return picture([chart(title, points, logarithmic=True, marks=[mark], x_name="layer")])


def learning(history: Sequence[Mapping[str, float]]) -> str:
    """The distillation loss, and held-out perplexity of student and teacher."""
    losses = [(line["step"], line["loss"]) for line in history]
    scored = [line for line in history if "eval_loss" in line]
    curves = {
        "student": [(line["step"], math.exp(line["eval_loss"])) for line in scored],
        "teacher": [(line["step"], math.exp(line["eval_teacher_loss"])) for line in scored],
    }
    loss = chart("normalised error of the hidden states, training", {"loss": losses}, logarithmic=True)
    return picture([loss, chart("held-out perplexity", curves, logarithmic=True)])


def draw(pictures: Mapping[str, str], folder: str | Path) -> None:
    """Writes each as FOLDER/NAME.svg."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures.items():
        (folder / f"{name}.svg").write_text(svg)
