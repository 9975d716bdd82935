"""Draws the loss against the number of updates from the metrics.jsonl of a run.

python benchmarks/plot_loss.py runs/shakespeare docs/loss_curve.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def series(lines: list[dict], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of a column; lines where it is absent or null (a refused step) are left out."""
    found = [(line["step"], line[key]) for line in lines if line.get(key) is not None and "step" in line]
    return [step for step, _ in found], [value for _, value in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="an output folder of loopos.train, or its metrics.jsonl")
    parser.add_argument("picture", type=Path, help="the file to write; its suffix decides the format")
    parser.add_argument("--title", default="")
    args = parser.parse_args()
    path = args.run / "metrics.jsonl" if args.run.is_dir() else args.run
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not series(lines, "loss")[0]:
        raise SystemExit(f"{path} has no line with a step and a loss")

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    axes.plot(*series(lines, "loss"), color="#4878a8", linewidth=0.9, label="training batch")
    if series(lines, "eval_loss")[0]:
        axes.plot(*series(lines, "eval_loss"), color="#c44e52", marker="o", markersize=3, label="held out")
    axes.set(xlabel="updates", ylabel="loss (nats per token)", title=args.title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(args.picture, dpi=130, metadata={"Software": None} if args.picture.suffix == ".png" else None)


if __name__ == "__main__":
    main()
