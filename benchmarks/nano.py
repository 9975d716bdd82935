"""Runs nano_loopos.py and nano_torch.py in turn, each in a process of its own, and prints medians and their ratio.

In turn (A B A B) so that a machine that slows down or speeds up touches both alike; in processes of their own so that
neither engine's threads are in the other's way.

    python benchmarks/nano.py input.txt --threads 2 --rounds 3
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import nano_setting as setting

PEERS = {"loopos": "nano_loopos.py", "torch": "nano_torch.py"}


def run(script: str, args: argparse.Namespace, seed: int) -> dict:
    threads = str(args.threads)
    command = [sys.executable, str(Path(__file__).with_name(script)), str(args.text.resolve())]
    command += ["--steps", str(args.steps), "--threads", threads, "--seed", str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "LOOPOS_NUM_THREADS": threads}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help="a UTF-8 text file, such as tinyshakespeare")
    parser.add_argument("--steps", type=int, default=setting.STEPS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="how often each engine runs; round i uses seed 1337 + i")
    args = parser.parse_args()

    present = {name: script for name, script in PEERS.items() if importlib.util.find_spec(name)}
    for name in PEERS.keys() - present.keys():
        print(f"{name} is not installed here: no comparison with it")
    figures: dict[str, list[dict]] = {name: [] for name in present}
    for number in range(args.rounds):
        for name, script in present.items():
            one = run(script, args, setting.SEED + number)
            figures[name].append(one)
            print(json.dumps(one), flush=True)

    medians = {}
    for name, runs in figures.items():
        train, evaluation, loss = (
            statistics.median(one[key] for one in runs) for key in ("train_seconds", "eval_seconds", "eval_loss")
        )
        medians[name] = train
        tokens = args.steps * setting.BATCH * setting.BLOCK / train
        print(
            f"{runs[0]['engine']:24} train {train:8.2f} s ({tokens:,.0f} tokens/s)   evaluate {evaluation:6.2f} s   "
            f"held-out loss {loss:.4f}   medians of {len(runs)}, {args.threads} threads"
        )
    if len(medians) == 2:
        print(f"wall time of training, torch / loopos: {medians['torch'] / medians['loopos']:.2f}")


if __name__ == "__main__":
    main()
