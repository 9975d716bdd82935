"""The same sums by torch.distributed over gloo."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
import torch.distributed as dist

from loopos.bench.peers.teaming import join_as, rank_and_size


class Network:
    """Answers for one rank."""

    def start(self, threads: int) -> dict[str, Any]:
        rank, size = rank_and_size()
        torch.set_num_threads(threads)
        dist.init_process_group("gloo", f"file://{os.environ['LOOPOS_BENCH_FOLDER']}/gloo", rank=rank, world_size=size)
        return {"engine": f"torch {torch.__version__} gloo", "rss": 0}

    def sums(self, size: int, count: int) -> dict[str, Any]:
        """Seconds of each of ``count`` sums of ``size`` bytes of float32 over all ranks."""
        array = torch.ones(size // 4)
        seconds = []
        for _ in range(count):
            begin = time.perf_counter()
            dist.all_reduce(array)
            seconds.append(time.perf_counter() - begin)
            array.fill_(1)
        return {"seconds": seconds}


if __name__ == "__main__":
    join_as(Network())
