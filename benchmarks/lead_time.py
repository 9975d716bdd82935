"""How long before a run diverges its monitor speaks, and how often it speaks of a healthy one.

Runs that diverge by nature: nothing is written into them, a setting or the data are wrong. Three sets of them
(lead_sets.py, lead_torch.py): those that the monitor's bounds were chosen on, those of our own that nobody chose
anything on, and PyTorch programs under loopos.watch, which nobody chose anything on either. A loss has doubled at the
first step in which it is twice the lowest median of 16 losses so far; the lead is the number of steps from the first
finding of the monitor to that one. Findings of the healthy runs are false alarms.

    python benchmarks/lead_time.py benchmarks/results/lead_time.json     # a quarter of an hour of one core
    python benchmarks/lead_time.py benchmarks/results/lead_time.json --sets held_out     # the others stay
    python benchmarks/render.py                                          # the tables, into docs/watch-doctor.md

In the record "held_out_before" and "fresh_before" are these sets with the monitor of d2eca54, before any change.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lead_sets
import lead_text
import numpy as np

import loopos
from loopos.data.batches import TokenStream

PLAIN = {"max_grad_norm": None, "lr_schedule": "constant", "batch_size": 8, "progress": False, "weight_decay": 0.0}
LEAD, OFTEN = 15, 10
WINDOW = 16
SETS = {
    "tuning": "Runs of ours on which the bounds were chosen",
    "held_out": "Runs of ours on which nothing was chosen",
    "fresh": "The same with other seeds, twice these rates and a shorter rise",
    "torch_tuning": "PyTorch programs on which what the loss has to do with it was chosen",
    "torch": "PyTorch programs under `loopos.watch` on which no bound was chosen",
    "torch_fresh": "The same with other seeds and twice these rates",
}


class Losses:
    """Those of a run, in order. at: the step, from 1, in which the last one has doubled, or is not finite; None while
    there was no such."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.at: int | None = None
        self._lowest = math.inf

    def add(self, loss: float) -> bool:
        """Whether the run has diverged."""
        values, count = self.values, len(self.values)
        if count >= WINDOW and (count - WINDOW) % 4 == 0:
            self._lowest = min(self._lowest, statistics.median(values[-WINDOW:]))
        values.append(loss)
        if self.at is None and (not math.isfinite(loss) or loss > 2 * self._lowest):
            self.at = len(values)
        return self.at is not None


class BadRow:
    """A stream whose last row is one token again and again, scored on others."""

    def __init__(self, ids: np.ndarray, length: int):
        self._length = length
        self._stream = TokenStream(ids, seq_len=length, batch_size=8, grad_accum=1, vocab_size=256)

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        ids, targets = (np.array(each) for each in self._stream.batch(step, micro))
        ids[-1], targets[-1] = 3, np.random.default_rng(step).integers(0, 256, self._length)
        return ids, targets


class Watch:
    """stops: the run ends when its loss has doubled. first: the step of the first finding."""

    def __init__(self, stops: bool) -> None:
        self.losses, self.stops = Losses(), stops
        self.alarms: list[str] = []
        self.first: int | None = None

    def on_step_end(self, info: dict[str, Any]) -> bool:
        return self.losses.add(info["loss"]) and self.stops

    def on_alarm(self, info: dict[str, Any]) -> None:
        self.alarms.append(str(info.get("sentence", info)))
        self.first = info["step"] if self.first is None else self.first


def train(ids: np.ndarray, config: dict[str, Any], seed: int, steps: int, stops: bool, **more: Any) -> Watch:
    """A run of ours on these tokens."""
    config = dict(config)
    scale, bad, dtype = config.pop("scale", 1), config.pop("bad", 0), config.pop("dtype", "float32")
    model = loopos.Model(loopos.ModelConfig(**(lead_sets.SIZE | config)), seed=seed, dtype=dtype)
    watch = Watch(stops)
    for view in model.parameters().values():
        if view.ndim > 1 and scale != 1:
            view *= scale
    data = BadRow(ids, model.config.context_length) if bad else ids
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loopos.train(
                model, data, max_steps=steps, seed=seed, log_every=OFTEN, callbacks=[watch], threads=1, **(PLAIN | more)
            )
        except loopos.NonFiniteError:
            watch.losses.add(math.inf)
    return watch


def diverging(runs: list[lead_sets.Run], trained: Callable[[lead_sets.Run], Any]) -> dict[str, Any]:
    found = []
    for run in runs:
        watch = trained(run)
        at, spoke = watch.losses.at, watch.first
        row = {"name": run["name"], "kind": run["kind"], "doubled": at, "spoke": spoke}
        row["lead"] = None if at is None or spoke is None else at - spoke
        found.append(row | {"said": watch.alarms[:1]})
        print(found[-1], flush=True)
    told = [row for row in found if row["doubled"] is not None]
    early = sum(row["lead"] is not None and row["lead"] >= LEAD for row in told)
    return {"runs": found, "early": early, "diverged": len(told)}


def healthy(runs: dict[str, Any], trained: Callable[[Any], Any]) -> dict[str, Any]:
    alarms: list[str] = []
    total = 0
    for name, run in runs.items():
        watch = trained(run)
        total += len(watch.losses.values)
        alarms += [f"{name}: {each}" for each in watch.alarms]
        print(name, len(watch.losses.values), watch.losses.values[-1], watch.alarms, flush=True)
    return {"runs": len(runs), "steps": total, "alarms": alarms}


def measured(name: str, steps: int) -> dict[str, Any]:
    """A set. steps: of each of its healthy runs."""
    if name.startswith("torch"):
        import lead_torch

        diverge, fine = {
            "torch_tuning": (lead_torch.TUNING, {}),
            "torch": (lead_torch.DIVERGING, lead_torch.HEALTHY),
            "torch_fresh": (lead_torch.FRESH, {}),
        }[name]
        by_itself, in_health = lead_torch.train, lambda run: lead_torch.train(run, steps)
    else:
        diverge, fine, ids = {
            "tuning": (lead_sets.TUNING, lead_sets.HEALTHY, lead_text.readme()),
            "held_out": (lead_sets.HELD_OUT, lead_sets.HEALTHY_HELD_OUT, lead_text.made_up()),
            "fresh": (lead_sets.FRESH, {}, lead_text.made_up()),
        }[name]
        by_itself = lambda run: train(ids, run["config"], run["seed"], run["steps"], True, **run["train"])  # noqa: E731
        in_health = lambda run: train(ids, run[0], 1, steps, False, **run[1])  # noqa: E731
    began = time.perf_counter()
    result = diverging(diverge, by_itself)
    if steps and fine:
        result["healthy"] = healthy(fine, in_health)
    return result | {"seconds": round(time.perf_counter() - began)}


def sentence(result: dict[str, Any]) -> str:
    healthy, runs = result.get("healthy"), result["diverged"]
    said = f"At least {LEAD} steps in {result['early']} of {runs} runs that diverge ({result['early'] / runs:.0%})."
    if healthy is None:
        return said
    return f"{said} {len(healthy['alarms'])} findings in {healthy['steps']:,} steps of {healthy['runs']} healthy runs."


def render(result: dict[str, Any] | None) -> str:
    if result is None:
        return "Not measured yet."
    parts = []
    for name, title in SETS.items():
        if name not in result:
            continue
        lines = [
            f"{title} (`benchmarks/lead_time.py --sets {name}`):",
            "",
            "| run | the loss has doubled in step | the monitor speaks in step | lead |",
            "|---|---|---|---|",
        ]
        for run in result[name]["runs"]:
            cells = ("-" if run[key] is None else str(run[key]) for key in ("name", "doubled", "spoke", "lead"))
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join([*lines, "", sentence(result[name])]))
        if f"{name}_before" in result:
            parts.append(f"Of the monitor as it was before: {sentence(result[f'{name}_before'])}")
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", nargs="?", help="a JSON file to write; sets that are not measured stay in it")
    parser.add_argument("--sets", default=",".join(SETS), help="which, with commas between")
    parser.add_argument("--steps", type=int, default=10_000, help="of each of the healthy runs of a set; 0: none")
    args = parser.parse_args()
    path = None if args.record is None else Path(args.record)
    result = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else {}
    for name in args.sets.split(","):
        result[name] = measured(name, args.steps)
        print(result[name]["early"], "of", result[name]["diverged"], "of", len(result[name]["runs"]))
        if path is not None:
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
