"""What it costs to watch a run: a step with nothing watched, with the sentinel, and traced.

off       the core's calls alone: forward and backward, gradient norm, update. (The core's own part of
          the sentinel cannot be switched off: a thread reads its floating-point flags after every operation, which is
          tens of cycles and comes some twenty times for each block and part of the batch.)
sentinel  what loopos.train adds to every step: the gate, the monitor with its bands, update ratios at every tenth step
trace     the pass that follows a hit: every tensor looked at, and what it was made of; once per hit

The first two take turns by ten steps, for the tenth has the update ratios; medians of such tens.
python benchmarks/health_overhead.py [--threads 2] [--seconds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from types import SimpleNamespace

import numpy as np

import loopos
from loopos.monitor.watch import Watch
from loopos.optim.training import for_training
from loopos.run import gate

EVERY = 10  # steps between two lines of the log
SETTINGS = {  # vocabulary, context, layers, heads, width, batch
    "micro": (65, 32, 2, 2, 64, 8),
    "nano": (65, 64, 4, 4, 128, 12),
    "baby": (65, 256, 6, 6, 384, 8),
}


class Step:
    """One training step of a setting, watched or not."""

    def __init__(self, setting: tuple[int, ...]):
        vocab, context, layers, heads, width, self.batch = setting
        self.config = loopos.ModelConfig(vocab, context, layers, heads, width)
        self.model = loopos.Model(self.config, seed=1)
        self.optimizer = for_training("adamw", self.model, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
        self.rng = np.random.default_rng(0)
        self.watch, self.done = Watch(self.model, log_every=EVERY), 0

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        ids = self.rng.integers(0, self.config.vocab_size, (self.batch, self.config.context_length + 1))
        return ids[:, :-1].copy(), ids[:, 1:].copy()

    def off(self) -> SimpleNamespace:
        core, (ids, targets) = self.model._core, self.data()
        loss, count, _ = core.accumulate(ids, targets, scale=1 / targets.size, step=self.done, seed=1)
        norm = core.grad_norm()
        self.optimizer.step_core(1e-3, gate.clip_factor(norm, 1.0), norm)
        self.done += 1
        return SimpleNamespace(loss=loss / count, grad_norm=norm, valid_tokens=count, applied=True)

    def sentinel(self) -> None:
        self.watch.before(self.done + 1)
        self.watch.after(self.done, self.off(), 1e-3)
        self.watch.notes()

    def trace(self) -> None:
        core, (ids, targets) = self.model._core, self.data()
        core.trace(ids, targets, scale=1 / targets.size, step=self.done, seed=1)


def timed(call, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=loopos.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="for each setting")
    args = parser.parse_args()
    loopos.set_num_threads(args.threads)
    print(f"threads {args.threads}")
    print(f"{'setting':8} {'off ms':>9} {'sentinel':>9} {'trace':>7}   (share of off)")
    for name, setting in SETTINGS.items():
        step = Step(setting)
        kinds = {"off": step.off, "sentinel": step.sentinel, "trace": step.trace}
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for call in kinds.values():
            call()
        until = time.perf_counter() + args.seconds
        while time.perf_counter() < until or len(seconds["trace"]) < 3:
            for kind, times in [("off", EVERY), ("sentinel", EVERY)] * 5 + [("trace", 1)]:
                seconds[kind].append(timed(kinds[kind], times))  # traces are rare: they spoil the caches for the others
        medians = {kind: statistics.median(values) for kind, values in seconds.items()}
        off = medians["off"]
        print(f"{name:8} {off * 1e3:9.2f} {medians['sentinel'] / off:9.3f} {medians['trace'] / off:7.2f}")


if __name__ == "__main__":
    main()
