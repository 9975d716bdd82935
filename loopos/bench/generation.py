"""Greedy generation beside Hugging Face transformers, on the same random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

import loopos

from .machine import Limits, spread
from .process import PeerError, Process
from .request import Request
from .settings import Setting

ENGINES = ("loopos", "transformers")
DEFAULT = ("nano", "gpt2", "llama")
CONTEXT, PROMPT = 256, 16  # of every model here, whatever its setting's


def measure(asked: Request) -> dict[str, Any]:
    """Seconds to continue one prompt of 16 tokens, the prompt included, by 128 more unless other steps are asked for.
    Both engines read the same Hugging Face folder; the batch is 1."""
    new = 128 if asked.steps is None else asked.steps
    if new > CONTEXT - PROMPT:
        raise ValueError(f"bench: steps must be at most {CONTEXT - PROMPT} for generate, got {new}")
    measured = [_setting(each, asked, new) for each in asked.settings]
    return {"prompt": PROMPT, "new_tokens": new, "settings": measured}


def _setting(setting: Setting, asked: Request, new: int) -> dict[str, Any]:
    threads, rounds, report = asked.threads, asked.rounds, asked.report
    setting = setting.resized(setting.name, context_length=CONTEXT, batch=1)
    prompt = np.random.default_rng(0).integers(0, setting.config.vocab_size, (1, PROMPT)).tolist()
    absent: list[dict[str, Any]] = []
    written: dict[str, list[int]] = {}
    seconds: dict[str, list[float]] = {}
    limits = Limits(threads)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        loopos.Model(setting.config, seed=0).save_pretrained(folder)
        running: list[Process] = []
        memory: dict[str, int] = {}
        for name in asked.peers:
            report(f"{setting.name}: {name} starts, threads {threads}")
            try:
                process = stack.enter_context(Process(name, threads))
                process.ask("load", folder=folder)
                written[name] = process.turn("generate", prompt=prompt, count=new)["ids"][0]
                seconds[name] = []
                running.append(process)
            except PeerError as reason:
                absent.append({"peer": name, "threads": threads, "reason": str(reason)})
        for turn in range(rounds):
            report(f"{setting.name}: round {turn + 1} of {rounds}")
            limits.measure()
            for process in list(running):
                try:
                    seconds[process.name].append(process.turn("generate", prompt=prompt, count=new)["seconds"])
                    memory[process.name] = process.ask("memory")["peak_rss"]
                except PeerError as reason:
                    running.remove(process)
                    absent.append({"peer": process.name, "threads": threads, "reason": str(reason)})
        results = [
            {
                "peer": process.name,
                "threads": threads,
                "engine": process.engine,
                "seconds": spread(seconds[process.name]),
                "tokens_per_second": new / spread(seconds[process.name])["median"],
                "peak_rss": memory[process.name],
                "agrees_for": agreement(written[process.name], written[running[0].name]) - PROMPT,
            }
            for process in running
        ]
    return {
        "setting": setting.to_dict() | {"tokens": 1, "parameters": setting.config.num_parameters()},
        "limits": [limits.result()],
        "peers": results,
        "absent": absent,
    }


def agreement(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids at the start of both are the same. Random weights have near ties, which rounding decides: two right
    engines may part."""
    pairs = list(zip(first, second, strict=False))
    return next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))
