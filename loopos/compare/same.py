"""Whether all trials of a seed began with the same weights and saw the same batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Same:
    """seeds: for each, start (SHA-256 of the weights), batches (SHA-256 of the digests of all batches) and updates,
    of the longest trial; trials: how many were looked at; differences: a sentence for each that is not alike."""

    seeds: dict[int, dict[str, Any]] = field(default_factory=dict)
    trials: int = 0
    differences: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        seeds = {str(seed): about for seed, about in self.seeds.items()}
        return {"same": bool(self), "seeds": seeds, "trials": self.trials, "differences": self.differences}


def same(trials: Mapping[str, tuple[int, str, Sequence[str]]]) -> Same:
    """trials: by name, (seed, start, the digest of each update's batches). A trial that ended early, or was short, is
    compared as far as it went."""
    seeds: dict[int, dict[str, Any]] = {}
    differences = []
    for seed in sorted({each[0] for each in trials.values()}):
        of_seed = {name: each[1:] for name, each in trials.items() if each[0] == seed}
        first = max(of_seed, key=lambda name: len(of_seed[name][1]))
        start, batches = of_seed[first]
        for name, (theirs, seen) in of_seed.items():
            if theirs != start:
                differences.append(f"{name} began with other weights than {first}")
            at = next((i for i, (a, b) in enumerate(zip(seen, batches, strict=False)) if a != b), None)
            if at is not None:
                differences.append(f"{name} saw another batch than {first} at update {at + 1}")
        digest = hashlib.sha256("".join(batches).encode()).hexdigest()
        seeds[seed] = {"start": start, "batches": digest, "updates": len(batches)}
    return Same(seeds, len(trials), differences)
