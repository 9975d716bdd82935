"""What a precision does to learning: nanoGPT's published CPU setting (nano_setting.py), trained under each precision
from the same seed on the same batches, and the held-out losses beside float32's.

    python benchmarks/learning.py input.txt --json benchmarks/results/learning.json
    python benchmarks/learning.py --show benchmarks/results/learning.json

On a processor without matrix tiles LOOPOS_PRODUCTS=emulated computes the same bits, slowly. The exit code is 1 where a
loss is further from float32's than MOST allows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import nano_setting as setting

from loopos.bench import machine
from loopos.bench.cells import table

MOST = {"bf16x3": 0.002, "bf16": 0.01}  # of the difference of a held-out loss
PRECISIONS = ("float32", *MOST)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    runs = []
    for seed in range(setting.SEED, setting.SEED + args.seeds):
        started = []
        for precision in PRECISIONS:
            command = [sys.executable, str(Path(__file__).with_name("nano_loopos.py")), str(args.text.resolve())]
            command += ["--steps", str(args.steps), "--threads", str(args.threads)]
            command += ["--seed", str(seed), "--precision", precision]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            if not args.together:
                started[-1].wait()
        for precision, process in zip(PRECISIONS, started, strict=True):
            told, _ = process.communicate()
            if process.returncode != 0:
                raise SystemExit(f"learning: seed {seed} under {precision} failed, for the reason above")
            runs.append({"seed": seed} | json.loads(told.splitlines()[-1]))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    about = machine.describe() | {"threads": args.threads}
    return {
        "suite": "learning",
        "machine": about,
        "steps": args.steps,
        "text_bytes": args.text.stat().st_size,
        "runs": runs,
    }


def differences(result: dict[str, Any]) -> dict[str, list[float]]:
    """Of each precision but float32: its held-out loss less float32's of the same seed, for each seed."""
    plain = {run["seed"]: run["eval_loss"] for run in result["runs"] if run["precision"] == "float32"}
    return {
        name: [run["eval_loss"] - plain[run["seed"]] for run in result["runs"] if run["precision"] == name]
        for name in MOST
    }


def too_far(result: dict[str, Any]) -> list[str]:
    return [name for name, values in differences(result).items() if max(map(abs, values)) > MOST[name]]


def apart(result: dict[str, Any]) -> list[str]:
    """The precisions that a product was computed apart in: without tiles all of them are float32, to the bit."""
    return [run["precision"] for run in result["runs"] if run["products"] != "fma"]


def render(result: dict[str, Any], markdown: bool = True) -> str:
    found = differences(result)
    rows = []
    for name in PRECISIONS:
        runs = [run for run in result["runs"] if run["precision"] == name]
        loss = statistics.mean(run["eval_loss"] for run in runs)
        cells = [name, runs[0]["products"], f"{loss:.5f}"]
        if name in MOST:
            cells += [" ".join(f"{value:+.5f}" for value in found[name]), f"{MOST[name]:g}"]
        else:
            cells += ["-", "-"]
        rows.append(cells)
    header = ["precision", "products", "held-out loss", "less float32's", "at most"]
    seeds = sorted({run["seed"] for run in result["runs"]})
    of, threads = "seed" if len(seeds) == 1 else "seeds", result["machine"]["threads"]
    about = (
        f"{result['steps']:,} updates, {of} {', '.join(map(str, seeds))}, "
        f"{threads} thread{'s' if threads != 1 else ''}, {result['machine']['processor']}; "
        f"the held-out loss is over {result['runs'][0]['eval_tokens']:,} tokens."
    )
    if not apart(result):
        about += " All precisions were computed as float32 here, so this run says nothing of them."
    return f"{about}\n\n{table(header, rows, markdown)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("text", type=Path, nargs="?", help="a UTF-8 text file, such as tinyshakespeare")
    parser.add_argument("--steps", type=int, default=setting.STEPS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from the setting's on")
    parser.add_argument(
        "--together", action="store_true", help="the precisions at the same time, each with its threads"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--show", type=Path, metavar="FILE", help="the table of a result; nothing is trained")
    args = parser.parse_args()
    if args.show is None and args.text is None:
        parser.error("a text file is needed, or --show with a result")
    if args.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {args.seeds}")
    result = measure(args) if args.show is None else json.loads(args.show.read_text())
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(render(result, markdown=False))
    for name in (far := too_far(result)):
        print(f"{name}: further from float32 than {MOST[name]:g}")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
