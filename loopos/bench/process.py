"""Engines as processes that take turns."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import loopos
from loopos import checks

SETTLE = 0.05  # seconds between two turns: a pool of threads may spin for some 20 ms before it sleeps


class Peer(NamedTuple):
    """An engine: its program, the package that has to be installed for it, the type that it keeps the weights of a
    model in when it loads one, the fields of the loopos.LoRA that it trains (None: the model itself), and the precision
    of its products, as :meth:`loopos.bench.peers.serve.Engine.use_precision` takes it."""

    program: str
    package: str
    storage: str = "float32"
    adapter: dict[str, Any] | None = None
    precision: str = "float32"


LORA = {"rank": 8, "alpha": 16}


PEERS = {
    "loopos": Peer("ours", "loopos"),
    "loopos-bf16x3": Peer("ours", "loopos", precision="bf16x3"),
    "loopos-bf16": Peer("ours", "loopos", precision="bf16"),
    "torch": Peer("torch_eager", "torch"),
    "torch-medium": Peer("torch_eager", "torch", precision="medium"),
    "torch-autocast": Peer("torch_eager", "torch", precision="autocast"),
    "torch-bfloat16": Peer("torch_eager", "torch", precision="bfloat16"),
    "torch-compiled": Peer("torch_compiled", "torch"),
    "jax": Peer("jax_jit", "jax"),
    "transformers": Peer("transformers_generate", "transformers"),
    "loopos-bfloat16": Peer("ours", "loopos", "bfloat16"),
    "loopos-int8": Peer("ours", "loopos", "int8"),
    "loopos-int4": Peer("ours", "loopos", "int4"),
    "llama.cpp-f16": Peer("llama_generate", "llama_cpp", "f16"),
    "llama.cpp-q8_0": Peer("llama_generate", "llama_cpp", "q8_0"),
    "loopos-lora": Peer("ours", "loopos", adapter=LORA),
    "loopos-rslora": Peer("ours", "loopos", adapter=LORA | {"rslora": True}),
    "loopos-dora": Peer("ours", "loopos", adapter=LORA | {"dora": True}),
    "loopos-lora-bf16x3": Peer("ours", "loopos", adapter=LORA, precision="bf16x3"),
    "loopos-lora-bfloat16": Peer("ours", "loopos", "bfloat16", LORA),
    "loopos-lora-bfloat16-bf16": Peer("ours", "loopos", "bfloat16", LORA, precision="bf16"),
    "loopos-lora-int8": Peer("ours", "loopos", "int8", LORA),
    "loopos-lora-int4": Peer("ours", "loopos", "int4", LORA),
    "peft": Peer("peft_lora", "peft", adapter=LORA),
    "peft-bfloat16": Peer("peft_lora", "peft", "bfloat16", LORA),
}


def chosen(names: str | None, possible: tuple[str, ...], what: str = "peers") -> list[str]:
    """Those of a list with commas between, each once; None: all of ``possible``. ValueError for another name."""
    if names is None:
        return list(possible)
    for name in (given := names.split(",")):
        if name not in possible:
            raise ValueError(
                f"bench: {what} must be names with commas between, out of {', '.join(possible)}, "
                f"got {checks.shown(name)}"
            )
    return list(dict.fromkeys(given))


class PeerError(Exception):
    """An engine that cannot do what it is asked; the message is the reason, for the table."""


# glibc gives freed arrays back to the system, or not, by rules of its own; the pages of the next are then cleared once
# more, which takes longer than many an operation. With these it keeps them.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


class Process:
    """One engine in a process of its own, alive until :meth:`close`. PeerError when it is not installed.

    keep_memory: what its arrays held is used again, where it would as a rule go back to the system."""

    def __init__(self, name: str, threads: int, *, keep_memory: bool = False):
        peer = PEERS[name]
        if importlib.util.find_spec(peer.package) is None:
            raise PeerError(f"{peer.package} is not installed")
        self.name, self.threads = name, threads
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        path = [str(Path(loopos.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"loopos.bench.peers.{peer.program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={
                **os.environ,
                **(_KEEP_MEMORY if keep_memory else {}),
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
                "LOOPOS_BENCH_THREADS": str(threads),
            },
        )
        try:
            started = self.ask("start", threads=threads, precision=peer.precision)
        except BaseException:
            self.close()
            raise
        self.engine: str = started["engine"]
        self.rss: int = started["rss"]  # before there is a model

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The reply to one request; waits until it comes. PeerError with the engine's own reason, or with the last line
        of its stderr when it has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(self._last_words())
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply

    def turn(self, do: str, **arguments: Any) -> dict[str, Any]:
        """:meth:`ask`, and a pause after it in which the engine's threads fall asleep."""
        reply = self.ask(do, **arguments)
        time.sleep(SETTLE)
        return reply

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        ended = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{ended}: {words[-1]}" if words else ended

    def close(self) -> None:
        """End the process: stdin is closed, which is its sign; it is killed when it does not follow."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
