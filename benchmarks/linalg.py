"""Complex Hermitian algebra beside PyTorch: each operation forward and with its backward, and a whole loss.

    python benchmarks/linalg.py --json benchmarks/results/linalg.json
    python benchmarks/linalg.py --show benchmarks/results/linalg.json

Each engine runs in a process of its own, the two in turns; of a turn and of the turns the median counts.
The loss: a prediction (B, N, N) blended with a sample covariance, loaded, and held against a truth by Stein
(divergence, of three log-determinants) and the relative Frobenius norm; gradients by the prediction and by the weight.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SENSORS, SNAPSHOTS, SIDES, SOURCES = 144, 64, 16, 5
EPS, BETA = 1e-3, 0.3


def inputs(batch: int, n: int = SENSORS) -> dict[str, np.ndarray]:
    """Snapshots, positive definite matrices of trace N, right sides and gradients, complex64."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)

    def covariance():
        a = normal(batch, n, 2 * n)
        r = a @ a.conj().swapaxes(1, 2) / (4 * n)
        return ((r + r.conj().swapaxes(1, 2)) / 2).astype(np.complex64)

    found = {"snapshots": normal(batch, SNAPSHOTS, n), "b": normal(batch, n, SIDES), "db": normal(batch, n, SIDES)}
    return found | {"r": covariance(), "samples": covariance(), "truth": covariance(), "dr": covariance()}


def ours(x: dict[str, np.ndarray]) -> dict[str, tuple]:
    """(forward, forward and backward) by operation."""
    from loopos import linalg as la

    r, dr, one = x["r"], x["dr"], np.ones(len(x["r"]), np.float32)

    def loss(backward: bool):
        y = la.load_diagonal(la.blend(r, x["samples"], BETA), EPS)
        middle = la.blend(y, x["truth"], 0.5)
        stein = la.logdet(middle) - 0.5 * (la.logdet(y) + la.logdet(x["truth"]))
        off = y - x["truth"]
        scale = la.frobenius_norm(x["truth"])
        value = float((stein + la.frobenius_norm(off) / scale).mean())
        if not backward:
            return value
        share = one / len(one)
        dy = 0.5 * la.logdet_backward(share, middle)
        dy += la.logdet_backward(-0.5 * share, y)
        dy += la.frobenius_norm_backward(share / scale, off)
        return value, la.blend_backward(la.load_diagonal_backward(dy, y, EPS)[0], r, x["samples"], BETA)

    def pair(name, arguments, dy):
        forward, backward = getattr(la, name), getattr(la, name + "_backward")
        return lambda: forward(*arguments), lambda: (forward(*arguments), backward(dy, *arguments))

    def spectral(name, what):
        forward, backward = getattr(la, name), getattr(la, name + "_backward")

        def both():
            eigen = la.eigh(r)
            return forward(r, what, eigen), backward(dr, r, what, eigen)

        return lambda: forward(r, what), both

    def inverse():
        y = la.inverse(r)
        return y, la.inverse_backward(dr, r, y)

    def eigh():
        w, v = la.eigh(r)
        return la.eigh_backward(w, None, w, v)

    return {
        "sample_covariance": pair("sample_covariance", (x["snapshots"],), dr),
        "hermitize": pair("hermitize", (r,), dr),
        "trace_normalize": pair("trace_normalize", (r,), dr),
        "blend": pair("blend", (r, x["samples"], BETA), dr),
        "frobenius_norm": pair("frobenius_norm", (r,), one),
        "cholesky": pair("cholesky", (r,), dr),
        "logdet": pair("logdet", (r,), one),
        "inverse": (lambda: la.inverse(r), inverse),
        "solve": pair("solve", (r, x["b"]), x["db"]),
        "eigh": (lambda: la.eigh(r), eigh),
        "spectral_function log": spectral("spectral_function", "log"),
        "projector": spectral("projector", SOURCES),
        "whole loss": (lambda: loss(False), lambda: loss(True)),
    }


def theirs(x: dict[str, np.ndarray], threads: int) -> dict[str, tuple]:
    """The same by torch.linalg and autograd; of the ways to a log-determinant the fastest."""
    import torch

    torch.set_num_threads(threads)
    given = {name: torch.tensor(array) for name, array in x.items()}
    dr, one = given["dr"], torch.ones(len(x["r"]))
    n = x["r"].shape[-1]
    eye = torch.eye(n)

    def logdet(r):
        return torch.linalg.slogdet(r).logabsdet

    def trace_normalize(r):
        traces = torch.diagonal(r, dim1=-2, dim2=-1).real.sum(-1).clamp_min(1e-9)
        return r * (n / traces).view(-1, 1, 1)

    def log(r):
        w, v = torch.linalg.eigh(r)
        return (v * torch.log(w).unsqueeze(-2)) @ v.mH

    def projector(r):
        v = torch.linalg.eigh(r).eigenvectors[..., n - SOURCES :]
        return v @ v.mH

    def loss(r, beta):
        y = (1 - beta) * r + beta * given["samples"] + EPS * eye
        stein = logdet((y + given["truth"]) / 2) - 0.5 * (logdet(y) + logdet(given["truth"]))
        off = torch.linalg.matrix_norm(y - given["truth"]) / torch.linalg.matrix_norm(given["truth"])
        return (stein + off).mean()

    def pair(function, arguments, dy):
        def both():
            leaves = [each.detach().clone().requires_grad_() for each in arguments]
            function(*leaves).backward(dy)
            return [each.grad for each in leaves]

        def forward():
            with torch.no_grad():
                return function(*arguments)

        return forward, both

    r, beta = given["r"], torch.tensor(BETA)
    return {
        "sample_covariance": pair(lambda a: a.mT @ a.conj() / SNAPSHOTS, (given["snapshots"],), dr),
        "hermitize": pair(lambda r: (r + r.mH) / 2, (r,), dr),
        "trace_normalize": pair(trace_normalize, (r,), dr),
        "blend": pair(lambda a, b, t: (1 - t) * a + t * b, (r, given["samples"], beta), dr),
        "frobenius_norm": pair(torch.linalg.matrix_norm, (r,), one),
        "cholesky": pair(torch.linalg.cholesky, (r,), dr),
        "logdet": pair(logdet, (r,), one),
        "inverse": pair(torch.linalg.inv, (r,), dr),
        "solve": pair(torch.linalg.solve, (r, given["b"]), given["db"]),
        "eigh": pair(lambda r: torch.linalg.eigh(r).eigenvalues, (r,), torch.ones(len(x["r"]), n)),
        "spectral_function log": pair(log, (r,), dr),
        "projector": pair(projector, (r,), dr),
        "whole loss": pair(loss, (r, beta), torch.tensor(1.0)),
    }


def seconds(call, least: float) -> float:
    """The median of calls over at least so many seconds, three or more."""
    call()
    times = []
    while len(times) < 3 or sum(times) < least:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def one_engine(engine: str, batch: int, threads: int, least: float, names: list[str] | None) -> dict:
    x = inputs(batch)
    if engine == "loopos":
        import loopos

        loopos.set_num_threads(threads)
    calls = ours(x) if engine == "loopos" else theirs(x, threads)
    chosen = {name: both for name, both in calls.items() if not names or name in names}
    return {name: [seconds(call, least) for call in both] for name, both in chosen.items()}


def measure(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    """``found`` with what was measured now put in: batches, and of those operations, that it does not have stay."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    for batch in options.batches:
        turns: dict[str, list] = {"loopos": [], "torch": []}
        for _ in range(options.rounds):
            for engine, results in turns.items():
                command = [sys.executable, __file__, "--engine", engine, "--batches", str(batch)]
                command += ["--threads", str(options.threads), "--seconds", str(options.seconds)]
                command += ["--ops", *options.ops] if options.ops else []
                run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                results.append(json.loads(run.stdout))
        kept = found["batches"].setdefault(str(batch), {})
        for name in turns["loopos"][0]:
            kept[name] = {"rounds": options.rounds} | {
                engine: [statistics.median(turn[name][i] for turn in results) for i in (0, 1)]
                for engine, results in turns.items()
            }
    return found


def render(found: dict[str, Any]) -> str:
    """The table, milliseconds and how many times as fast."""
    rounds = sorted({row["rounds"] for rows in found["batches"].values() for row in rows.values()})
    turns = " or ".join(map(str, rounds))
    setting = f"complex64, N = {found['sensors']}, {found['threads']} threads, medians of {turns} turns"
    where = f"{found['machine']['processor']}, PyTorch {found['torch']}"
    head = [f"{what}, B = {batch}" for batch in found["batches"] for what in ("forward", "and backward")]
    lines = [
        f"{setting}; {where}. Milliseconds of LoopOS, and how many times as long PyTorch takes:",
        "",
        "| | " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * len(head),
    ]
    for name in next(iter(found["batches"].values())):
        cells = [
            f"{1e3 * mine:.2f}, {other / mine:.1f} x"
            for rows in found["batches"].values()
            for mine, other in zip(rows[name]["loopos"], rows[name]["torch"], strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def begun(options: argparse.Namespace) -> dict[str, Any]:
    """What the file holds already, or a record without measurements."""
    if options.json and Path(options.json).exists():
        return json.loads(Path(options.json).read_text(encoding="utf-8"))
    from loopos.bench.machine import describe

    of_machine = {"machine": describe(), "torch": importlib.metadata.version("torch")}
    return of_machine | {"sensors": SENSORS, "threads": options.threads, "batches": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each call, in each turn")
    parser.add_argument("--ops", nargs="+", help="only these")
    parser.add_argument("--json", help="write what was measured into this file; what else it holds stays")
    parser.add_argument("--show", help="measure nothing: the table of such a file")
    parser.add_argument("--engine", choices=("loopos", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        (batch,) = options.batches
        print(json.dumps(one_engine(options.engine, batch, options.threads, options.seconds, options.ops)))
        return
    if options.show:
        print(render(json.loads(Path(options.show).read_text(encoding="utf-8"))))
        return
    found = measure(options, begun(options))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(render(found))


if __name__ == "__main__":
    main()
