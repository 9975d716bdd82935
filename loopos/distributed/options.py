"""How a training over several processes goes about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from loopos import checks

AUTO = "auto"
TIMEOUT = 300.0
SECONDS = {"above": 0, "high": 1e9}  # of it: the clocks of threads end somewhere above
WIRES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """What ``distributed=`` of loopos.train takes, where "auto" is not enough.

    fast_reduce  gradients are added by MPI_Allreduce, in an order of MPI's own: the bits then depend on the number of
                 processes
    wire         "float32", or "bfloat16": gradients are sent rounded, half of the bytes, and what rounding took away is
                 added to the next ones. The bits then depend on the number of processes, and a run that is resumed
                 begins without what was owed
    shard_optimizer   each process keeps the moments of its own parameters alone, updates these, and sends them to the
                 others: the same bits, less memory (ZeRO-1)
    timeout      seconds that a process may be silent, or keep the others waiting, before the run is ended
    """

    fast_reduce: bool = False
    wire: str = "float32"
    shard_optimizer: bool = False
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        object.__setattr__(self, "fast_reduce", checks.boolean("Distributed", "fast_reduce", self.fast_reduce))
        sharded = checks.boolean("Distributed", "shard_optimizer", self.shard_optimizer)
        object.__setattr__(self, "shard_optimizer", sharded)
        checks.choice("Distributed", "wire", self.wire, WIRES)
        if self.fast_reduce and self.wire != "float32":
            raise ValueError(f"Distributed: wire={self.wire!r} is added along the tree; expected fast_reduce=False")
        object.__setattr__(self, "timeout", checks.real("Distributed", "timeout", self.timeout, **SECONDS))

    @classmethod
    def of(cls, asked: Any) -> Distributed | None:
        """Of the argument of train: None, "auto" or one of these; ValueError and TypeError for anything else."""
        if asked is None or isinstance(asked, cls):
            return asked
        if asked == AUTO and isinstance(asked, str):
            return cls()
        raise (ValueError if isinstance(asked, str) else TypeError)(
            f"train: distributed must be None, 'auto' or a loopos.Distributed, got {checks.shown(asked)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON."""
        return asdict(self)
