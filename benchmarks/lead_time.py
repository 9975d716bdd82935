"""How long before a run diverges its monitor speaks, and how often it speaks of a healthy one.

Twenty runs that diverge by nature: nothing is written into them, a setting or the data are wrong. A loss has doubled
at the first step in which it is twice the lowest median of 16 losses so far; the lead is the number of steps from the
first finding of the monitor to that one. Findings of the healthy runs are false alarms.

    python benchmarks/lead_time.py benchmarks/results/lead_time.json     # some minutes of one core
    python benchmarks/render.py                                          # the table, into docs/watch-doctor.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import loopos
from loopos.data.batches import TokenStream

TEXT = Path(__file__).resolve().parents[1] / "README.md"
SIZE = {"vocab_size": 256, "context_length": 32, "n_layer": 2, "n_head": 2, "d_model": 32}
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False}
PLAIN = {"max_grad_norm": None, "lr_schedule": "constant", "batch_size": 8, "progress": False, "weight_decay": 0.0}
STEPS, LEAD, OFTEN = 1500, 15, 10
WINDOW = 16


def _run(name: str, kind: str, seed: int, config: dict[str, Any] | None = None, **train: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "seed": seed, "config": config or {}, "train": {"warmup_steps": STEPS} | train}


SGD = {"optimizer": "sgd"}
RUNS = [
    _run("rate, adamw, warm-up to 1", "rate", 0, learning_rate=1),
    _run("rate, adamw, warm-up to 3", "rate", 1, learning_rate=3),
    _run("rate, sgd, warm-up to 30", "rate", 0, learning_rate=30, **SGD),
    _run("rate, sgd, warm-up to 100", "rate", 1, learning_rate=100, **SGD),
    _run("rate, llama, warm-up to 0.5", "rate", 0, LLAMA, learning_rate=0.5),
    _run("rate, llama, warm-up to 3", "rate", 1, LLAMA, learning_rate=3),
    _run("rate, lion, warm-up to 0.3", "rate", 1, LLAMA, learning_rate=0.3, optimizer="lion"),
    _run("decay, adamw, rate times decay to 3", "decay", 0, learning_rate=1e-2, weight_decay=300),
    _run("decay, adamw, rate times decay to 2.5", "decay", 1, learning_rate=1e-3, weight_decay=2500),
    _run("decay, adamw, rate times decay to 4.5", "decay", 2, learning_rate=3e-3, weight_decay=1500),
    _run("decay, lion, rate times decay to 3", "decay", 0, learning_rate=3e-3, weight_decay=1000.0, optimizer="lion"),
    _run("eps 1e-30 and a second beta of 0.3", "eps", 0, learning_rate=0.1, betas=(0.9, 0.3), eps=1e-30),
    _run("eps 1e-30 and a second beta of 0.5", "eps", 1, learning_rate=0.1, betas=(0.9, 0.5), eps=1e-30),
    _run("eps 1e-30 and a second beta of 0.7", "eps", 2, learning_rate=0.1, betas=(0.9, 0.7), eps=1e-30),
    _run("weights 4 times too large", "init", 0, {"scale": 4}, learning_rate=30, **SGD),
    _run("weights 8 times too large", "init", 1, {"scale": 8}, learning_rate=30, **SGD),
    _run("weights 6 times too large", "init", 2, {"scale": 6}, learning_rate=100, **SGD),
    _run("a bad row in every batch, sgd at 20", "row", 0, {"bad": 1}, learning_rate=20, **SGD),
    _run("a bad row in every batch, sgd at 30", "row", 1, {"bad": 1}, learning_rate=30, **SGD),
    _run("a bad row in every batch, sgd at 60", "row", 2, {"bad": 1}, learning_rate=60, **SGD),
]
HEALTHY = {
    "gpt": ({}, {"learning_rate": 1e-3, "warmup_steps": 20, "max_grad_norm": 1.0}),
    "llama": (LLAMA, {"learning_rate": 3e-3, "optimizer": "adam"}),
    "dropout": ({"dropout": 0.2, "activation": "relu"}, {"learning_rate": 1e-3, "lr_schedule": "linear"}),
    "sgd": ({}, {"learning_rate": 0.3, "optimizer": "sgd"}),
}


class BadRow:
    """A stream whose last row is one token again and again, scored on others."""

    def __init__(self, ids: np.ndarray, seed: int):
        self._stream = TokenStream(ids, seq_len=32, batch_size=8, grad_accum=1, vocab_size=256)
        self._rng = np.random.default_rng(seed)

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        ids, targets = (np.array(each) for each in self._stream.batch(step, micro))
        ids[-1], targets[-1] = 3, np.random.default_rng(step).integers(0, 256, 32)
        return ids, targets


class Watch:
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.alarms: list[str] = []
        self.first: int | None = None
        self.stops = True

    def on_step_end(self, info: dict[str, Any]) -> bool:
        self.losses.append(info["loss"])
        return self.stops and doubled(self.losses) is not None

    def on_alarm(self, info: dict[str, Any]) -> None:
        self.alarms.append(str(info.get("sentence", info)))
        self.first = info["step"] if self.first is None else self.first


def doubled(losses: list[float]) -> int | None:
    """The step, from 1, in which the last loss is twice the lowest median; None if it is not."""
    if len(losses) <= WINDOW:
        return None
    lowest = min(statistics.median(losses[at : at + WINDOW]) for at in range(0, len(losses) - WINDOW, 4))
    return len(losses) if not losses[-1] <= 2 * lowest else None


def train(config: dict[str, Any], seed: int, steps: int, stops: bool, **more: Any) -> Watch:
    config = dict(config)
    scale, bad = config.pop("scale", 1), config.pop("bad", 0)
    model, watch = loopos.Model(loopos.ModelConfig(**(SIZE | config)), seed=seed), Watch()
    watch.stops = stops
    for view in model.parameters().values():
        if view.ndim > 1 and scale != 1:
            view *= scale
    ids = np.frombuffer(TEXT.read_bytes(), np.uint8).astype(np.int64)
    data = BadRow(ids, seed) if bad else ids
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loopos.train(model, data, max_steps=steps, seed=seed, log_every=OFTEN, callbacks=[watch], **(PLAIN | more))
        except loopos.NonFiniteError:
            watch.losses.append(float("inf"))
    return watch


def diverging() -> list[dict[str, Any]]:
    found = []
    for run in RUNS:
        watch = train(run["config"], run["seed"], STEPS, True, **run["train"])
        at = len(watch.losses) if not np.isfinite(watch.losses[-1]) or doubled(watch.losses) else None
        spoke = watch.first
        lead = None if at is None or spoke is None else at - spoke
        found.append(
            {
                "name": run["name"],
                "kind": run["kind"],
                "doubled": at,
                "spoke": spoke,
                "lead": lead,
                "said": watch.alarms[:1],
            }
        )
        print(found[-1], flush=True)
    return found


def healthy(steps: int) -> dict[str, Any]:
    alarms: list[str] = []
    total = 0
    for name, (config, more) in HEALTHY.items():
        watch = train(config, 1, steps, False, **more)
        total += len(watch.losses)
        alarms += [f"{name}: {each}" for each in watch.alarms]
        print(name, len(watch.losses), watch.alarms, flush=True)
    return {"runs": len(HEALTHY), "steps": total, "alarms": alarms}


def render(result: dict[str, Any] | None) -> str:
    if result is None:
        return "Not measured yet."
    lines = [
        "20 runs of models of about 35,000 weights whose rate rises over 1500 steps (`benchmarks/lead_time.py`):",
        "",
        "| run | the loss has doubled in step | the monitor speaks in step | lead |",
        "|---|---|---|---|",
    ]
    for run in result["runs"]:
        lines.append(
            "| "
            + " | ".join(str("-" if run[k] is None else run[k]) for k in ("name", "doubled", "spoke", "lead"))
            + " |"
        )
    healthy = result["healthy"]
    lines += [
        "",
        f"At least {LEAD} steps in {result['early']} of {result['diverged']} runs that diverge. "
        f"{len(healthy['alarms'])} findings in {healthy['steps']} steps of {healthy['runs']} healthy runs.",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", nargs="?", help="a JSON file to write")
    parser.add_argument("--steps", type=int, default=10_000, help="of each of the four healthy runs")
    args = parser.parse_args()
    runs = diverging()
    early = sum(run["lead"] is not None and run["lead"] >= LEAD for run in runs if run["doubled"])
    result = {"runs": runs, "early": early, "diverged": sum(bool(run["doubled"]) for run in runs)}
    print(early, "of", result["diverged"], "of", len(runs))
    if args.steps:
        result["healthy"] = healthy(args.steps)
    if args.record:
        Path(args.record).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
