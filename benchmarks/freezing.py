"""What freezing saves: a step of the whole model, of its last block alone, and of everything but the embeddings.

Each is a process of its own, in turns; step time is the median over all rounds, memory the peak RSS.

    python benchmarks/freezing.py [--setting gpt2] [--rounds 3] [--steps 8]
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time

KINDS = ("everything", "the last block", "all but embeddings")


def worker(setting: str, kind: str, steps: int) -> None:
    import numpy as np

    import loopos
    from loopos.bench.settings import SETTINGS

    chosen = SETTINGS[setting]
    model = loopos.Model(chosen.config, seed=0)
    if kind == "the last block":
        model.freeze()
        model.unfreeze(f"blocks.{chosen.config.n_layer - 1}.*")
    elif kind == "all but embeddings":
        model.freeze("*embed*")
    rng, ends = np.random.default_rng(0), []

    class Random:
        def batch(self, step, micro):
            ids = rng.integers(0, chosen.config.vocab_size, (chosen.batch, chosen.length + 1))
            return ids[:, :-1].copy(), ids[:, 1:].copy()

    class Clock:
        def on_step_end(self, info):
            ends.append(time.perf_counter())

    loopos.train(model, Random(), max_steps=steps + 2, callbacks=[Clock()], progress=False)
    times = [1e3 * (b - a) for a, b in itertools.pairwise(ends[1:])]
    trained = sum(view.size for view in model.parameters(trainable=True).values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"times": times, "trained": trained, "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", default="gpt2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.setting, args.worker, args.steps)
        return
    found = {kind: {"times": [], "trained": 0, "peak": 0.0} for kind in KINDS}
    for _ in range(args.rounds):
        for kind, whole in found.items():
            options = ["--setting", args.setting, "--steps", str(args.steps), "--worker", kind]
            command = [sys.executable, __file__, *options]
            one = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            whole["times"] += one["times"]
            whole["trained"], whole["peak"] = one["trained"], max(whole["peak"], one["peak"])
    base = found[KINDS[0]]
    print(f"{args.setting:20} {'weights trained':>16} {'step ms':>9} {'share':>6} {'peak MB':>8} {'share':>6}")
    for kind, one in found.items():
        step, whole = statistics.median(one["times"]), statistics.median(base["times"])
        share = one["peak"] / base["peak"]
        print(f"{kind:20} {one['trained']:16,} {step:9.1f} {step / whole:6.2f} {one['peak']:8.0f} {share:6.2f}")


if __name__ == "__main__":
    main()
