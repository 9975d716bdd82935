"""Shards of the batch, and the fixed tree in which what they give is added.

The batch of an update is cut into ``shards``, whatever number of processes there is; each takes a contiguous run of
them. The partial gradients of shards are the leaves of a binary tree that depends on the number of shards alone: a node
over n > 1 leaves has the largest power of two below n of them on its left. Floating-point addition of two numbers has
one result, so every process that adds along this tree finds the same sum, however the leaves were shared out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

Node = tuple[int, int]  # the leaves from the first up to the second, which is not one of them
T = TypeVar("T")

SHARDS = 8  # of a run over several processes, unless asked otherwise


def children(node: Node) -> tuple[Node, Node] | None:
    """Left and right of a node; None of a leaf."""
    first, last = node
    count = last - first
    if count <= 1:
        return None
    middle = first + (1 << (count - 1).bit_length() - 1)
    return (first, middle), (middle, last)


@lru_cache(maxsize=64)
def left_of(shards: int) -> Mapping[Node, tuple[Node, Node]]:
    """Of each right child in the tree: (its left neighbour, their parent)."""
    found: dict[Node, tuple[Node, Node]] = {}
    waiting: list[Node] = [(0, shards)]
    while waiting:
        node = waiting.pop()
        if pair := children(node):
            found[pair[1]] = pair[0], node
            waiting += pair
    return found


def roots(shards: int, first: int, last: int) -> list[Node]:
    """The largest nodes of the tree whose leaves all lie in [first, last), from the left: what a process with these
    shards can add by itself."""
    found: list[Node] = []
    waiting: list[Node] = [(0, shards)]
    while waiting:
        node = waiting.pop()
        if node[1] <= first or node[0] >= last:
            continue
        if first <= node[0] and node[1] <= last:
            found.append(node)
        elif pair := children(node):
            waiting += pair[::-1]
    return found


def copies_of(shards: int, run: range) -> int:
    """How many sums wait at most, each in a copy of the gradients, while a process goes through its ``run`` of shards.
    At most log2 of the shards, rounded up."""
    return max((len(roots(shards, run.start, last)) for last in range(run.start + 1, run.stop)), default=0)


def combine(shards: int, parts: Mapping[Node, T], add: Callable[[T, T], T]) -> T:
    """The value of the whole tree, of ``parts`` that are the values of nodes which together have every leaf once."""

    def value(node: Node) -> Any:
        if node in parts:
            return parts[node]
        pair = children(node)
        if pair is None:
            raise ValueError(f"combine: nobody has shard {node[0]} of {shards}")
        return add(value(pair[0]), value(pair[1]))

    return value((0, shards))


def run_of(shards: int, rank: int, size: int) -> range:
    """The shards of one of ``size`` processes: contiguous, as even as can be."""
    return range(shards * rank // size, shards * (rank + 1) // size)


def rows_of(shard: int, shards: int, rows: int, unit: int = 1) -> tuple[int, int]:
    """From which row of a batch of ``rows`` a shard goes to which; ``unit`` rows stay together."""
    things = rows // unit
    return things * shard // shards * unit, things * (shard + 1) // shards * unit
