"""What became of the updates of a run: counted from its first step, over every resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Tally:
    """attempted: steps done, which is applied + skipped.
    applied: their updates changed the weights, whether or not a rewind undid them later.
    skipped: they did not: refused for a number that is not finite, or without one valid target.
    clipped: applied with a gradient that was scaled down to max_grad_norm."""

    attempted: int = 0
    applied: int = 0
    skipped: int = 0
    clipped: int = 0

    def count(self, update: Any) -> None:
        """An update that the run goes on from."""
        self.attempted += 1
        self.applied += int(update.applied)
        self.skipped += int(not update.applied)
        self.clipped += int(update.applied and update.clipped)

    def to_dict(self) -> dict[str, int]:
        return dict(vars(self))

    @classmethod
    def resumed(cls, state: Mapping[str, Any], step: int) -> Tally:
        """From a checkpoint's state after ``step`` updates. One that was written before there were tallies knows only
        how many updates were refused."""
        saved = state.get("tally")
        if isinstance(saved, Mapping) and all(type(saved.get(name)) is int for name in vars(cls())):
            return cls(**{name: saved[name] for name in vars(cls())})
        refused = min(step, int(state["policy"].get("refused_in_all", 0)))
        return cls(step, step - refused, refused, 0)
