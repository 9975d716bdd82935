"""What loopos.watch costs: a step of a GPT off, watched, and under PyTorch's anomaly mode, in turns; and the peak RSS.

    python benchmarks/watch_cost.py [--rounds 6] [--json FILE]

Step times: one process with a program for each way, each with a model of its own. They take turns step by step, in an
order that changes from step to step, so that what else the machine does meets all of them. A watch measures how far
weights move in one step of ten, so steps are compared by their place among ten: the median over rounds of the ratio to
"off" of the same turn, and the mean of the ten. Where its memory lies makes the one or the other program some percent
faster all the same, and watching may come out below off. The first ten steps, in which files are opened, are not timed.
Peak RSS: a process of its own for each way. Sizes: 10M (batch 8 of 128 tokens) and 124M (batch 4 of 256 tokens),
float32, AdamW (foreach), PyTorch eager.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
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
CYCLE = 10  # steps, of which a watch measures one
SIZES = {  # layers, heads, width, vocabulary, context, batch
    "10M": (6, 6, 348, 4096, 128, 8),
    "124M": (12, 12, 768, 50257, 256, 4),
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
    """A training loop as programs have it, in one of the ways."""

    def __init__(self, size: str, way: str, stack: contextlib.ExitStack):
        *sizes, self.batch = SIZES[size]
        torch.manual_seed(0)
        self.way, self.model = way, GPT(*sizes)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4)
        self.ids = torch.randint(0, sizes[3], (self.batch, sizes[4] + 1))
        self.watch = None
        if way == "watching":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            self.watch = stack.enter_context(loopos.watch(self.model, self.optimizer, output_dir=folder))

    def loss(self) -> torch.Tensor:
        logits = self.model(self.ids[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), self.ids[:, 1:].flatten())

    def step(self) -> None:
        if self.watch is not None:
            self.watch.step(self.loss)
            return
        with torch.autograd.set_detect_anomaly(self.way == "anomaly"):
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            self.optimizer.step()

    def timed(self) -> float:
        """Seconds of a step."""
        began = time.perf_counter()
        self.step()
        return time.perf_counter() - began


def times(size: str, rounds: int) -> dict[str, dict[str, float]]:
    with contextlib.ExitStack() as stack:
        programs = [Program(size, way, stack) for way in WAYS]
        orders = list(
            itertools.permutations(programs)
        )  # what a step leaves behind, the next one pays: each follows each
        seen: list[dict[str, float]] = []
        for number in range(CYCLE * (rounds + 1)):
            turn = number // CYCLE + number  # each place among ten meets each order
            seen.append({program.way: program.timed() for program in orders[turn % len(orders)]})
    seen = seen[CYCLE:]

    def over_off(way: str) -> float:
        ratios = [each[way] / each["off"] for each in seen]
        return statistics.mean(statistics.median(ratios[place::CYCLE]) for place in range(CYCLE))

    return {way: {"ms": 1e3 * statistics.median(each[way] for each in seen), "ratio": over_off(way)} for way in WAYS}


def peak(size: str, way: str) -> float:
    """MB of a process that does two steps."""
    command = [sys.executable, __file__, "--peak", size, way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--peak", nargs=2, metavar=("SIZE", "WAY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.peak:
        size, way = given.peak
        with contextlib.ExitStack() as stack:
            program = Program(size, way, stack)
            program.step()
            program.step()
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
