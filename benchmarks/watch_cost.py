"""What loopos.watch costs: a step of a GPT off, watched, and under PyTorch's anomaly mode, in turns; and the peak RSS.

    python benchmarks/watch_cost.py [--rounds 2] [--json FILE]

Step times: one process with three models, which take turns step by step, in an order that changes from step to step, so
that what else the machine does meets all ways. After ten steps the ways change models, for where its memory lies makes
one model some percent faster than its like. A watch measures how far weights move in one step of ten, so steps are
compared by their place among ten: the geometric mean, over the three models, of the ratio to "off" of the same turn;
of these the median over rounds, and of the ten the mean. The step in which a watch opens its files is not timed.
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
from collections.abc import Callable

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
    """A training loop as programs have it."""

    def __init__(self, size: str):
        *sizes, self.batch = SIZES[size]
        torch.manual_seed(0)
        self.model = GPT(*sizes)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4)
        self.ids = torch.randint(0, sizes[3], (self.batch, sizes[4] + 1))

    def loss(self) -> torch.Tensor:
        logits = self.model(self.ids[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), self.ids[:, 1:].flatten())

    def step(self) -> None:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()

    def under_anomaly_mode(self) -> None:
        with torch.autograd.set_detect_anomaly(True):
            self.step()

    def stepping(self, way: str, stack: contextlib.ExitStack) -> Callable[[], object]:
        """A step in this way, for as long as the stack lasts."""
        if way == "off":
            return self.step
        if way == "anomaly":
            return self.under_anomaly_mode
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        watch = stack.enter_context(loopos.watch(self.model, self.optimizer, output_dir=folder))
        return lambda: watch.step(self.loss)


def seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def turns(programs: list[Program], shift: int) -> list[dict[str, float]]:
    """Seconds of ten steps of each way, of which the first has the program of number ``shift``."""
    with contextlib.ExitStack() as stack:
        steps = {way: programs[(at + shift) % len(programs)].stepping(way, stack) for at, way in enumerate(WAYS)}
        for step in steps.values():
            step()
        orders = itertools.cycle(itertools.permutations(WAYS))  # what a step leaves behind the next one pays
        return [{way: seconds(steps[way]) for way in order} for order in itertools.islice(orders, CYCLE)]


def times(size: str, rounds: int) -> dict[str, dict[str, float]]:
    programs = [Program(size) for _ in WAYS]
    for program in programs:
        program.step()
    seen = [[turns(programs, shift) for shift in range(len(programs))] for _ in range(rounds)]

    def over_off(way: str) -> float:
        def at(place: int) -> float:
            return statistics.median(
                statistics.geometric_mean(ten[place][way] / ten[place]["off"] for ten in each) for each in seen
            )

        return statistics.mean(map(at, range(CYCLE)))

    def median_of(way: str) -> float:
        return statistics.median(step[way] for each in seen for ten in each for step in ten)

    return {way: {"ms": 1e3 * median_of(way), "ratio": over_off(way)} for way in WAYS}


def peak(size: str, way: str) -> float:
    """MB of a process that does two steps."""
    command = [sys.executable, __file__, "--peak", size, way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
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
            step = Program(size).stepping(way, stack)
            step()
            step()
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
