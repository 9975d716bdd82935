"""One process, in the words of several: what a run asks its ranks for, and the answers where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from .partial import Partial
from .tree import Node, combine, run_of


class DifferentRank(ValueError):
    """A process has something else than the first: the text names both, and what it is."""


class Alone:
    """A run without other processes. ``loopos.distributed.ranks.Ranks`` has the same methods, and there each is called
    by every process at the same place of the run, but where it says otherwise."""

    rank, size = 0, 1
    fast = False  # gradients are not added along the tree
    shards_optimizer = False  # each process keeps the moments of its own parameters

    @property
    def first(self) -> bool:
        """Whether this is the process that prints, logs and writes."""
        return self.rank == 0

    def shards(self, shards: int) -> range:
        """Those of this process."""
        return run_of(shards, self.rank, self.size)

    def at(self, step: int) -> None:
        """This process is in update ``step``, from 1, and gets on. Called as often as there is news."""

    def total(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over processes of float64 (n,): exact where they are whole, or where only one has any that is not
        zero, and then the same in every process."""
        return numbers

    def gather(self, thing: Any) -> list[Any]:
        """What each process gave, in the order of their ranks."""
        return [thing]

    def share(self, make: Callable[[], Any]) -> Any:
        """What ``make`` gave in the first process, where alone it is called."""
        return make()

    def spread(self, owned: Sequence[tuple[int, np.ndarray]]) -> None:
        """Each array becomes what it is in the process that owns it: (its rank, the array)."""

    def collect(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """In the first process, the arrays of the others; in these, nothing."""
        return {}

    def sending(self, partial: Partial, shards: int) -> Any:
        """A context for the last pass over this process's last shard, of a ``partial`` that is closed: what is final is
        sent while it lasts. It gives what the core is to tell that, or None."""
        return nullcontext()

    def reduce(self, partial: Partial, shards: int) -> None:
        """Leaves in the buffer of ``partial``, which is closed, the sum of all shards of all processes."""
        sums: Mapping[Node, np.ndarray] = dict(partial.sums())
        if len(sums) > 1:
            raise RuntimeError(f"Alone.reduce: the shards of one process are one tree, got {sorted(sums)}")
        partial.complete(0, partial.buffer.size)

    def exchange_bytes(self, numbers: int, itemsize: int, shards: int) -> int:
        """What adding so many gradients with the others takes beside them."""
        return 0

    def threads(self, asked: int | None) -> int | None:
        """How many a process computes with; None leaves the number as it is."""
        return asked

    def agreed(self) -> Any:
        """A context in which an error of one process ends all of them."""
        return nullcontext()

    def same(self, what: Mapping[str, Any]) -> None:
        """DifferentRank in every process when one has another value under one of these names."""


def tree_sum(shards: int, values: Sequence[float]) -> float:
    """Of a number of each shard."""
    return combine(shards, {(i, i + 1): float(value) for i, value in enumerate(values)}, lambda a, b: a + b)
