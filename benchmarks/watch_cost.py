"""What loopos.watch costs: a step of a GPT off, watched, and under PyTorch's anomaly mode, in turns; and the peak RSS.

    python benchmarks/watch_cost.py [--rounds 5] [--json FILE]

Step times: one process and one model, of which every round times a few steps of each way, in an order that turns from
round to round; the median over rounds of the ratio to "off" of the same round. The first step of a way is not timed: a
watch opens its files and measures its weights there, which is once a run and once in ten steps. The nine that follow at
10M have one measured step among them. Peak RSS: a process of its own for each
way. Sizes: 10M (batch 8 of 128 tokens) and 124M (batch 4 of 256 tokens), float32, AdamW (foreach), PyTorch eager.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from torch.nn import functional

import loopos

WAYS = ("off", "watching", "anomaly")
SIZES = {  # layers, heads, width, vocabulary, context, batch, steps of a way in a round
    "10M": (6, 6, 348, 4096, 128, 8, 9),
    "124M": (12, 12, 768, 50257, 256, 4, 2),
}


class Block(torch.nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.first, self.second = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.first(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.second(x)), approximate="tanh"))


class GPT(torch.nn.Module):
    def __init__(self, layers: int, heads: int, width: int, vocabulary: int, context: int):
        super().__init__()
        self.tokens, self.places = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(context, width)
        self.blocks = torch.nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = torch.nn.LayerNorm(width), torch.nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Program:
    """A training loop as programs have it."""

    def __init__(self, size: str):
        *sizes, self.batch, self.steps = SIZES[size]
        torch.manual_seed(0)
        self.model = GPT(*sizes)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4)
        self.ids = torch.randint(0, sizes[3], (self.batch, sizes[4] + 1))

    def step(self) -> None:
        self.optimizer.zero_grad()
        logits = self.model(self.ids[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), self.ids[:, 1:].flatten())
        loss.backward()
        self.optimizer.step()

    def watched_step(self, watch: object) -> None:
        def loss() -> torch.Tensor:
            logits = self.model(self.ids[:, :-1])
            return functional.cross_entropy(logits.flatten(0, 1), self.ids[:, 1:].flatten())

        watch.step(loss)

    def timed(self, way: str, count: int) -> float:
        """Seconds a step, of ``count`` after the first."""
        with contextlib.ExitStack() as stack:
            step = self.step
            if way == "watching":
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                watch = stack.enter_context(loopos.watch(self.model, self.optimizer, output_dir=folder))
                step = lambda: self.watched_step(watch)  # noqa: E731
            elif way == "anomaly":
                stack.enter_context(torch.autograd.set_detect_anomaly(True))
            step()
            began = time.perf_counter()
            for _ in range(count):
                step()
            return (time.perf_counter() - began) / count


def times(size: str, rounds: int) -> dict[str, dict[str, float]]:
    program = Program(size)
    program.timed("off", 1)
    program.timed("watching", 1)
    seen: list[dict[str, float]] = []
    for number in range(rounds):
        order = [WAYS[(number + at) % 3] for at in range(3)]
        seen.append({way: program.timed(way, program.steps) for way in order})
    return {
        way: {
            "ms": 1e3 * statistics.median(each[way] for each in seen),
            "ratio": statistics.median(each[way] / each["off"] for each in seen),
            "ratios": [round(each[way] / each["off"], 4) for each in seen],
        }
        for way in WAYS
    }


def peak(size: str, way: str) -> float:
    """MB of a process that does two steps."""
    command = [sys.executable, __file__, "--peak", size, way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--peak", nargs=2, metavar=("SIZE", "WAY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.peak:
        size, way = given.peak
        Program(size).timed(way, 1)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    found = {}
    print("| GPT | way | ms a step | over off | peak RSS, MB | over off |\n|---|---|---|---|---|---|")
    for size in given.sizes.split(","):
        rows = times(size, given.rounds)
        for way in WAYS:
            rows[way]["rss"] = peak(size, way)
            row = rows[way]
            over = f"{row['ratio']:.3f} | {row['rss']:.0f} | {row['rss'] / rows['off']['rss']:.3f}"
            print(f"| {size} | {way} | {row['ms']:.1f} | {over} |", flush=True)
        found[size] = rows
    if given.json:
        with open(given.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
