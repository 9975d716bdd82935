"""LoopOS in several processes, by the way that loopos.train(distributed="auto") goes: an Updater with the ranks of MPI.

"tree" gives the same bits for any number of processes, with as many shards as there are ranks; "fast" is the reduction
of MPI; "bfloat16" the tree with rounded gradients on the wire; "zero" the tree, and each rank updates parameters of
its own."""

from __future__ import annotations

from typing import Any

import numpy as np

import loopos
from loopos.bench import settings
from loopos.bench.peers.ours import LoopOS
from loopos.bench.peers.teaming import RankEngine, join
from loopos.bench.settings import Setting
from loopos.optim.training import for_training
from loopos.run.kinds import objective_again
from loopos.run.settings import TrainSettings
from loopos.run.updates import Updater
from loopos.training import default_settings


class _Source:
    """The batches in turn; further passes take the next ones."""

    def __init__(self, data: list[tuple[np.ndarray, ...]]):
        self._data = data

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, ...]:
        return self._data[(step + micro) % len(self._data)]


class Ranks(LoopOS, RankEngine):
    ranks: Any = None

    def gather(self) -> None:
        if self.size > 1:
            from loopos.distributed import Distributed
            from loopos.distributed.opening import open_ranks

            self.ranks = open_ranks(Distributed())

    def part(self, data: list[tuple[np.ndarray, ...]]) -> list[tuple[np.ndarray, ...]]:
        """All: an Updater takes its rows of each batch."""
        return data

    def prepare(self, setting: Setting, data: list[tuple[np.ndarray, ...]]) -> int:
        self.model = loopos.Model(setting.config, seed=0)
        return sum(each.size for each in self.model.parameters().values())

    def learn(self, data: list[tuple[np.ndarray, ...]]) -> None:
        self._data = data
        self._optimizers: dict[bool, Any] = {}  # whether sharded; made when asked for, as each has moments of its own

    @staticmethod
    def _given(**more: Any) -> TrainSettings:
        return default_settings(
            betas=settings.BETAS,
            eps=settings.EPS,
            weight_decay=settings.WEIGHT_DECAY,
            max_grad_norm=settings.CLIP,
            **more,
        )

    def cut(self, rows: int, passes: int, reduction: str) -> None:
        together = {"shards": self.size} if rows == 0 and self.size > 1 else {}
        given = self._given(grad_accum=passes, **together)
        data = self.rows_of(super().part(self._data), rows) if rows else self._data
        objective = objective_again(self.model, given)
        ranks, zero = {}, bool(together) and reduction == "zero"
        if together:
            from loopos.distributed import Distributed

            wire = "bfloat16" if reduction == "bfloat16" else "float32"
            self.ranks.use(Distributed(fast_reduce=reduction == "fast", wire=wire, shard_optimizer=zero))
            ranks = {"ranks": self.ranks}
        self._update = Updater(
            self.model, self._optimizer(zero), _Source(data), given, lambda: None, objective=objective, **ranks
        )

    def _optimizer(self, zero: bool) -> Any:
        from loopos.optim.sharded import ShardedOptimizer

        if zero not in self._optimizers:
            rule = self._given().update_rule()
            self._optimizers[zero] = (
                ShardedOptimizer(self.ranks, model=self.model, **rule)
                if zero
                else for_training(model=self.model, **rule)
            )
        return self._optimizers[zero]

    def overlaps(self) -> bool:
        return self.size > 1 and self.ranks.overlaps and not self.ranks.shards_optimizer


if __name__ == "__main__":
    join(Ranks())
