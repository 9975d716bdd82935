"""What ways of fine-tuning give and take: answers that are right, what is forgotten, peak memory and seconds.

Each learns the forty answers of examples/planet.jsonl in a process of its own, from the same weights, with the rate
that is best of those tried for it. Right: answers word for word. Forgotten: perplexity of a chapter of Python's manual
beside that of the model before. Peak: VmHWM of the training. Seconds:
of processor time in the training, over the number of threads; what else runs changes it little.

    python benchmarks/adapter_methods.py FOLDER [--epochs 9] [--methods full,lora]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

PLANET = Path(__file__).resolve().parents[1] / "examples/planet.jsonl"
METHODS = {  # what to call it: settings of loopos.LoRA (None: all weights), storage of the base, learning rates to try
    "full": (None, "float32", (5e-5,)),
    "lora": ({"rank": 8, "alpha": 16}, "float32", (5e-4, 1e-3, 2e-3)),
    "rslora": ({"rank": 32, "alpha": 16, "rslora": True}, "float32", (2e-4, 5e-4)),
    "dora": ({"rank": 8, "alpha": 16, "dora": True}, "float32", (1e-3, 2e-3)),
    "lora-int8": ({"rank": 8, "alpha": 16}, "int8", (1e-3, 2e-3)),
    "lora-int4": ({"rank": 8, "alpha": 16}, "int4", (1e-3, 2e-3)),
}
WINDOW = 512  # tokens of a window of plain text


def peak() -> int:
    """MiB: the most that this process has held so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def worker(folder: str, method: str, rate: float, epochs: int) -> None:
    from pydoc_data.topics import topics

    import numpy as np

    import loopos
    from loopos.scoring.exact import match
    from loopos.scoring.examples import read_exact

    settings, weights, _ = METHODS[method]
    model = loopos.Model.from_pretrained(folder, weights=weights)
    ids = np.array(model.tokenizer.encode(topics["execmodel"]))
    windows = ids[: (len(ids) - 1) // WINDOW * WINDOW + 1]
    plain = windows[:-1].reshape(-1, WINDOW), windows[1:].reshape(-1, WINDOW)
    before = model.loss(*plain)
    adapter = None if settings is None else loopos.LoRA(**settings)
    began = time.process_time()
    result = loopos.train(
        model, PLANET, adapter=adapter, epochs=epochs, batch_size=1, seq_len=256, learning_rate=rate, progress=False
    )
    seconds, held = (time.process_time() - began) / loopos.get_num_threads(), peak()
    right = match(model, model.tokenizer, read_exact(PLANET), max_new_tokens=32).accuracy
    told = {"method": method, "rate": rate, "right": right, "peak": held, "seconds": seconds}
    told |= {"before": float(np.exp(before)), "after": float(np.exp(model.loss(*plain)))}
    print(json.dumps(told | {"loss": result.history[-1]["loss"]}))


def better(found: list[dict]) -> dict:
    """The one with most right answers, and of those the one that forgot least."""
    return max(found, key=lambda each: (each["right"], -each["after"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--worker", nargs=2, metavar=("METHOD", "RATE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.folder, args.worker[0], float(args.worker[1]), args.epochs)
    print("| method | rate | right | perplexity before | after | peak MiB | seconds |\n|---|---|---|---|---|---|---|")
    for method in args.methods.split(","):
        found = []
        for rate in METHODS[method][2]:
            what = ["--epochs", str(args.epochs), "--worker", method, str(rate)]
            command = [sys.executable, __file__, args.folder, *what]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(found[-1]), file=sys.stderr)
        best = better(found)
        cells = [best["method"], f"{best['rate']:g}", f"{best['right']:.1%}", f"{best['before']:.2f}"]
        cells += [f"{best['after']:.2f}", str(best["peak"]), f"{best['seconds']:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
