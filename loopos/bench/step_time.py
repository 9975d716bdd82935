"""A model of the time of one data-parallel step: what a node computes, what goes over its link, how much of that hides.

Everything is a pure function of measured or given numbers. A node makes ``passes`` forward and backward passes of
``rows`` sequences each and one update of the weights; between the two the gradients of all nodes are added. Not in the
model: nodes of different speed, jitter, switches that cannot carry all links at once, reading data, checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from loopos.distributed.reduction import BUCKET, bucket_of

BACKWARD = 2 / 3  # of a pass: two of its three products of each layer


@dataclass(frozen=True)
class Link:
    """latency: seconds of an empty message; bandwidth: bytes a second, in each direction at once."""

    latency: float
    bandwidth: float

    @classmethod
    def ethernet(cls, gigabits: float, latency: float, share: float = 1.0) -> Link:
        """A link of so many Gbit/s, of whose bits ``share`` carries numbers."""
        return cls(latency, share * gigabits * 1e9 / 8)

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Compute:
    """Seconds of a node: of a pass (fixed + rows * per_row), and of what a step does once (clipping, the update)."""

    fixed: float
    per_row: float
    update: float

    def passing(self, rows: float) -> float:
        return self.fixed + rows * self.per_row

    def step(self, rows: float, passes: float = 1) -> float:
        return self.update + passes * self.passing(rows)

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Gradient:
    """bytes: of the gradients that are added; late: of those that are whole only when backward has ended, so that
    their reduction cannot begin before (the embeddings, which the head may share); adding: seconds in which a node adds
    one byte of gradients to others; rounding, reading: in which it rounds one to bfloat16, and reads it again; width:
    bytes of a number; whole: of all gradients, where these are a part of them; early: they are sent on the way, in
    smaller buckets."""

    bytes: float
    late: float
    adding: float
    rounding: float = 0.0
    reading: float = 0.0
    width: float = 4.0
    whole: float = 0.0
    early: bool = False

    def buckets(self, nodes: int) -> int:
        """Exchanges in which they go."""
        numbers, of = math.ceil(self.bytes / self.width), math.ceil((self.whole or self.bytes) / self.width)
        return math.ceil(numbers / (bucket_of(of, nodes) if self.early else BUCKET))

    def rounded(self, wire: float) -> Gradient:
        """On a wire that carries ``wire`` of their bytes; they are added as they were."""
        return replace(
            self, bytes=wire * self.bytes, late=wire * self.late, adding=self.adding / wire, width=wire * self.width
        )

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def fit_link(points: Sequence[tuple[float, float]]) -> Link:
    """Of (bytes, seconds of one message) of several sizes. The latency is the time of the smallest; the bandwidth that
    of the largest, without it."""
    least, most = min(points), max(points)
    if least[0] == most[0]:
        raise ValueError(f"fit_link: messages of two sizes are needed, got {len(points)} of {least[0]:.0f} bytes")
    return Link(least[1], (most[0] - least[0]) / max(most[1] - least[1], 1e-12))


def fit_compute(points: Sequence[tuple[float, float, float]]) -> Compute:
    """Of (rows, passes, seconds of a step): least squares of the relative errors; no term is below 0.

    seconds = update + passes * fixed + passes * rows * per_row."""
    rows, passes, seconds = (np.array(column, float) for column in zip(*points, strict=True))
    terms = np.stack([passes, passes * rows, np.ones_like(rows)], axis=1) / seconds[:, None]
    kept = [0, 1, 2]
    while True:
        found, _, rank, _ = np.linalg.lstsq(terms[:, kept], np.ones(len(points)), rcond=None)
        if rank < len(kept):
            raise ValueError("fit_compute: steps of two batches and of two numbers of passes are needed")
        if (found >= 0).all():
            break
        kept.pop(int(np.argmin(found * terms[:, kept].mean(axis=0))))
    values = dict.fromkeys(range(3), 0.0) | dict(zip(kept, map(float, found), strict=True))
    return Compute(*(values[term] for term in range(3)))


def apart(compute: Compute, points: Sequence[tuple[float, float, float]]) -> float:
    """By how much of itself the worst of the points is off."""
    return max(abs(compute.step(rows, passes) / seconds - 1) for rows, passes, seconds in points)


def tree(nodes: int, gradient: Gradient, link: Link, sums: float = 1.0, gathered: bool = True) -> float:
    """Seconds of the reduction that gives the same bits for any number of nodes, nothing else going on.

    Of each bucket a node is sent its own piece of every other node's ``sums`` partial sums (1 where the number of nodes
    is a power of two that divides the shards; loopos.distributed.tree.roots says how many otherwise), adds
    them along the tree, and sends the result to all (``gathered``; where each node updates weights of its own, it keeps
    the result): n - 1 messages either way."""
    if nodes == 1:
        return 0.0
    share = (nodes - 1) / nodes
    sent = share * gradient.bytes * (sums + gathered) / link.bandwidth
    added = gradient.adding * gradient.bytes * (nodes * sums - 1) / nodes
    return (1 + gathered) * (nodes - 1) * gradient.buckets(nodes) * link.latency + sent + added


def fast(nodes: int, gradient: Gradient, link: Link) -> float:
    """Seconds of a reduction in whatever order is quickest: recursive halving and doubling (Rabenseifner 2004), which
    MPI takes for long vectors. As many bytes as the tree's, and fewer messages."""
    if nodes == 1:
        return 0.0
    share = (nodes - 1) / nodes
    sent = 2 * share * gradient.bytes / link.bandwidth
    return 2 * math.ceil(math.log2(nodes)) * link.latency + sent + share * gradient.bytes * gradient.adding


def coded(nodes: int, gradient: Gradient) -> float:
    """Seconds in which a node rounds its sum and its piece of that of all, and reads what it is sent: the others' sums
    of its piece, and the sum of all. Nothing of it hides."""
    return gradient.bytes * ((1 + 1 / nodes) * gradient.rounding + 2 * gradient.reading) if nodes > 1 else 0.0


def spread(nodes: int, gradient: Gradient, link: Link) -> float:
    """Seconds in which each node sends the weights that it has updated to all others, whose number is that of the
    gradients. Messages are not counted: those of all tensors are under way together."""
    return (nodes - 1) / nodes * gradient.bytes / link.bandwidth + agreed(nodes, link)


def agreed(nodes: int, link: Link) -> float:
    """Seconds in which all nodes learn the sum of a few numbers: the losses, and whether any was not finite."""
    return 2 * math.ceil(math.log2(nodes)) * link.latency


Reduction = Callable[[int, Gradient, Link], float]
REDUCTIONS: dict[str, Reduction] = {"tree": tree, "fast": fast}


def shards_cost(shards: int, gradient: Gradient) -> float:
    """Seconds in which a node adds its own shards along the tree: after each but the last the buffer is copied, and all
    but one of them are added to another."""
    return 2 * max(0, shards - 1) * gradient.bytes * gradient.adding


def exposed(whole: float, late: float, window: float) -> float:
    """Seconds of communication that nothing hides: whole, less what goes on in ``window`` seconds of backward; the part
    that can begin only after it, ``late``, is never hidden."""
    return max(whole - window, late)


@dataclass(frozen=True)
class Step:
    """Seconds of a step of several nodes, by part."""

    compute: float
    shards: float  # adding the node's own shards
    communication: float  # as if nothing hid it
    exposed: float  # of it
    coding: float = 0.0  # rounding, and reading what was

    @property
    def seconds(self) -> float:
        return self.compute + self.shards + self.coding + self.exposed

    @property
    def share(self) -> float:
        """Of the step that is communication which nothing hides."""
        return self.exposed / self.seconds


def step(
    nodes: int,
    compute: Compute,
    gradient: Gradient,
    link: Link,
    *,
    rows: float,
    passes: float = 1,
    shards: int = 1,
    reduction: str = "tree",
    overlap: float = 0.0,
    sharded_update: bool = False,
    wire: float = 1.0,
) -> Step:
    """One step of ``nodes``, each of which makes ``passes`` passes of ``rows`` sequences.

    shards: of one node, where the reduction is the tree; overlap: of the last pass's backward, the share in which
    gradients can travel without slowing it: 0 where they are added after it, 1 where the network needs no core;
    sharded_update: each node updates its share of the weights, all of ``update`` taken for it, of whose gradients alone
    it has the sum, and sends it to the others; nothing goes on the way then; wire: bytes on the wire over bytes of the
    gradients, which are rounded where it is not 1."""
    reduce = REDUCTIONS[reduction]
    if sharded_update:
        overlap = 0.0
        reduce = partial(tree, gathered=False) if reduction == "tree" else reduce
    sent = replace(gradient.rounded(wire), early=overlap > 0)
    whole = reduce(nodes, sent, link)
    late = reduce(nodes, replace(sent, bytes=sent.late, whole=sent.bytes), link) if overlap else whole
    window = overlap * BACKWARD * compute.passing(rows)
    computed = passes * compute.passing(rows) + compute.update / (nodes if sharded_update else 1)
    own = shards_cost(shards, gradient) if reduction == "tree" else 0.0
    told = agreed(nodes, link) + (spread(nodes, gradient, link) if sharded_update else 0.0)
    coding = coded(nodes, gradient) if wire != 1 else 0.0
    return Step(computed, own, told + whole, told + exposed(whole, late, window), coding)


def efficiency(nodes: int, compute: Compute, gradient: Gradient, link: Link, **how: Any) -> float:
    """What a node of ``nodes`` does in a second over what it does alone, with the same sequences of its own (weak
    scaling)."""
    alone = compute.step(how["rows"], how.get("passes", 1))
    return alone / step(nodes, compute, gradient, link, **how).seconds


MOST_PASSES = 1 << 20


def least_passes(
    nodes: int, compute: Compute, gradient: Gradient, link: Link, *, goal: float = 0.8, rows: float, **how: Any
) -> int | None:
    """The fewest passes of ``rows`` sequences a node and step with an efficiency of at least ``goal``: below them it is
    less. None where no number gives it (what each pass costs anew is too much)."""

    def reached(passes: int) -> bool:
        return efficiency(nodes, compute, gradient, link, rows=rows, passes=passes, **how) >= goal

    most = 1
    while not reached(most):
        most *= 2
        if most > MOST_PASSES:
            return None
    least = most // 2  # not enough, or 0
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if reached(middle) else (middle, most)
    return most
