"""What all engines share: requests come as lines of JSON on stdin, replies go as lines of JSON to stdout.

An engine that waits for its turn is blocked in a read and uses no processor. Whatever it or its libraries print goes to
stderr. ``serve`` ends when stdin does, so no engine outlives the program that asked.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from loopos.bench.picture_settings import PictureSetting, setting_from
from loopos.bench.settings import Setting


class Engine:
    """What an engine implements; one that cannot do a request leaves the method out."""

    name: str  # with its version

    def use_threads(self, threads: int) -> None:
        """Called once, before anything else."""
        raise NotImplementedError

    def use_precision(self, precision: str) -> None:
        """Called once, before there is a model, and only for another than float32; ``name`` tells it afterwards."""
        raise NotImplementedError

    def prepare(self, setting: Setting | PictureSetting, data: list[tuple[np.ndarray, ...]]) -> int:
        """Builds the model and the optimizer, and keeps ``data`` in the engine's own arrays; the number of
        parameters."""
        raise NotImplementedError

    def begin(self, weights: Mapping[str, np.ndarray]) -> None:
        """Sets the weights of the model of pictures that was built, given by LoopOS's names."""
        raise NotImplementedError

    def step(self, index: int) -> float:
        """One training step on batch ``index``: zeroed gradients, forward, backward, clipping, AdamW; the loss."""
        raise NotImplementedError

    def operation(self, name: str, backward: bool, arrays: dict[str, np.ndarray], options: dict) -> Callable[[], Any]:
        """A call that does the operation once on these arrays."""
        raise NotImplementedError

    def load(self, folder: str, storage: str = "float32") -> None:
        """The model in a Hugging Face folder, its weights kept in this type."""
        raise NotImplementedError

    def adapt(self, options: dict[str, Any]) -> int:
        """Puts LoRA on all linear modules of the model that was loaded; the number of parameters that are trained then.
        options: fields of loopos.LoRA."""
        raise NotImplementedError

    def learn(self, data: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Builds the optimizer for the model that was loaded, and keeps ``data`` for :meth:`step`."""
        raise NotImplementedError

    def generate(self, prompt: np.ndarray, count: int) -> np.ndarray:
        """``prompt`` (B, T) and ``count`` tokens more, the likeliest each time."""
        raise NotImplementedError


class Server:
    """Turns requests into calls of an engine."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._data: list = []
        self._done = 0
        self._call: Callable[[], Any] = lambda: None

    def start(self, threads: int, precision: str = "float32") -> dict[str, Any]:
        self._engine.use_threads(threads)
        if precision != "float32":
            self._engine.use_precision(precision)
        return {"engine": self._engine.name, "rss": _status("VmRSS")}

    def prepare(self, setting: dict[str, Any], seed: int) -> dict[str, Any]:
        chosen = setting_from(setting)
        self._data, self._done = chosen.data(seed), 0
        return {"parameters": self._engine.prepare(chosen, self._data)}

    def use(self, data: list) -> None:
        """Of :meth:`steps`, from its first batch on."""
        self._data, self._done = data, 0

    def begin(self, weights: str) -> dict[str, Any]:
        """weights: an .npz file, of which one array at a time is read."""
        with np.load(weights) as file:
            self._engine.begin(file)
        return {}

    def steps(self, count: int) -> dict[str, Any]:
        """Seconds and loss of each of ``count`` steps."""
        seconds, losses = [], []
        for _ in range(count):
            start = time.perf_counter()
            loss = self._engine.step(self._done % len(self._data))
            seconds.append(time.perf_counter() - start)
            losses.append(loss)
            self._done += 1
        return {"seconds": seconds, "losses": losses}

    def operation(self, name: str, backward: bool, arrays: list, options: dict) -> dict[str, Any]:
        from loopos.bench.operations import make_arrays

        self._call = self._engine.operation(name, backward, make_arrays(arrays), options)
        return {}

    def calls(self, count: int) -> dict[str, Any]:
        """Seconds of ``count`` calls of the operation, together."""
        start = time.perf_counter()
        for _ in range(count):
            self._call()
        return {"seconds": time.perf_counter() - start}

    def forget(self) -> dict[str, Any]:
        """Lets the arrays of the operation go."""
        self._call = lambda: None
        gc.collect()
        return {}

    def load(self, folder: str, storage: str = "float32") -> dict[str, Any]:
        self._engine.load(folder, storage)
        return {}

    def adapt(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"trained": self._engine.adapt(options)}

    def learn(self, setting: dict[str, Any], seed: int) -> dict[str, Any]:
        """Training of the model that was loaded, on the data of a setting."""
        self._data, self._done = Setting.from_dict(setting).data(seed), 0
        self._engine.learn(self._data)
        return {}

    def generate(self, prompt: list, count: int) -> dict[str, Any]:
        start = time.perf_counter()
        ids = self._engine.generate(np.array(prompt), count)
        return {"seconds": time.perf_counter() - start, "ids": ids.tolist()}

    def memory(self) -> dict[str, Any]:
        """The most this process has had resident so far, in bytes: the engine's code and libraries included."""
        return {"peak_rss": _status("VmHWM")}


def _status(field: str) -> int:
    """A size in /proc/self/status in bytes. Elsewhere the most that was resident, which stands for either."""
    status = Path("/proc/self/status")
    if not status.exists():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def serve(engine: Engine) -> None:
    """Answer requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer(Server(engine), sys.stdin, replies)


def answer(server: Any, requests: TextIO, replies: TextIO) -> None:
    """Until ``requests`` end. {"do": method of the server, ...its arguments}; an exception is answered as
    {"error": sentence}."""
    for line in requests:
        request = json.loads(line)
        try:
            reply = getattr(server, request.pop("do"))(**request)
        except Exception as error:  # whatever an engine's library raises is the reason why it is absent from a table
            lines = [each.strip() for each in str(error).splitlines() if each.strip()]
            reply = {"error": f"{type(error).__name__}: {lines[0] if lines else 'no message'}"}
        print(json.dumps(reply), file=replies, flush=True)
