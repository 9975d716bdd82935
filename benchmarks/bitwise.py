"""Shows that a run has the same bits for 1, 2 and 8 threads, and when it is killed (kill -9) and resumed.

Each line is a run in a process of its own: its last loss, in full, and the SHA-256 of its final weights. Exit status 1
when they differ. Dropout and gradient accumulation are on, because their state is what a sloppy resume forgets.

    python benchmarks/bitwise.py input.txt --steps 200
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SAVE_EVERY = 20


class SaysStep:
    def on_step_end(self, info):
        print(json.dumps({"step": info["step"]}), flush=True)


def worker(args: argparse.Namespace) -> None:
    import nano_setting as setting

    import loopos

    ids, _, vocab_size = setting.characters(args.text)
    config = loopos.ModelConfig(vocab_size=vocab_size, context_length=64, n_layer=4, n_head=4, d_model=128, dropout=0.1)
    result = loopos.train(
        config,
        ids,
        max_steps=args.steps,
        batch_size=6,
        grad_accum=2,
        learning_rate=1e-3,
        warmup_steps=10,
        threads=args.threads,
        output_dir=args.output_dir,
        save_every=SAVE_EVERY if args.output_dir else None,
        resume="auto" if args.output_dir else None,
        callbacks=[SaysStep()],
        progress=False,
    )
    digest = hashlib.sha256()
    for name, array in result.model.state_dict().items():
        digest.update(name.encode())
        digest.update(array.tobytes())
    print(json.dumps({"loss": result.history[-1]["loss"].hex(), "sha256": digest.hexdigest()}), flush=True)


def start(args: argparse.Namespace, threads: int, output_dir: str | None = None) -> subprocess.Popen:
    command = [
        sys.executable,
        __file__,
        str(args.text),
        "--steps",
        str(args.steps),
        "--threads",
        str(threads),
        "--worker",
    ]
    if output_dir:
        command += ["--output-dir", output_dir]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[str, str]:
    lines = process.stdout.read().splitlines()
    if process.wait() != 0:
        raise SystemExit(f"a run failed with status {process.returncode}")
    last = json.loads(lines[-1])
    return last["loss"], last["sha256"]


def kill_at(process: subprocess.Popen, step: int) -> None:
    for line in process.stdout:
        if json.loads(line)["step"] >= step:
            break
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit(f"the run was over before it could be killed at step {step}")
    process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help="a UTF-8 text file, such as tinyshakespeare")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--output-dir", help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    if args.steps < 3 * SAVE_EVERY:
        raise SystemExit(f"--steps {args.steps} is too short to be killed twice; give at least {3 * SAVE_EVERY}")

    runs = {f"{threads} threads": finish(start(args, threads)) for threads in (1, 2, 8)}
    with tempfile.TemporaryDirectory() as folder:
        kill_at(start(args, 2, folder), args.steps // 2)
        kill_at(start(args, 1, folder), args.steps * 3 // 4)
        label = f"killed at {args.steps // 2} (2 threads) and {args.steps * 3 // 4} (1), ended with 8"
        runs[label] = finish(start(args, 8, folder))
    for label, (loss, sha256) in runs.items():
        print(f"{float.fromhex(loss):.17g}  {sha256}  {label}")
    if len(set(runs.values())) != 1:
        raise SystemExit("the runs differ")
    print("all the same, bit for bit")


if __name__ == "__main__":
    main()
