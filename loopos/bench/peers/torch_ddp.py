"""PyTorch with DistributedDataParallel over gloo, which is its way to train on several CPUs; alone it is PyTorch as
torch_eager runs it. LoRA by peft, on all linear layers of the blocks.

DDP keeps its gradients in its buckets (``gradient_as_bucket_view``): by default it would hold them twice."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn

from loopos.bench import settings
from loopos.bench.peers.teaming import RankEngine, join
from loopos.bench.peers.torch_eager import Torch
from loopos.bench.peers.torch_model import Transformer, adamw
from loopos.bench.settings import Setting

LINEAR = ["qkv", "out", "up", "down", "gate"]


class Data(Torch, RankEngine):
    def gather(self) -> None:
        if self.size > 1:
            folder = os.environ["LOOPOS_BENCH_FOLDER"]
            dist.init_process_group("gloo", f"file://{folder}/gloo", rank=self.rank, world_size=self.size)
            self.name = f"torch {torch.__version__} DDP, gloo"

    def prepare(self, setting: Setting, data: list[tuple[np.ndarray, ...]]) -> int:
        torch.manual_seed(0)
        self.model = Transformer(setting.config)
        return sum(weight.numel() for weight in self.model.parameters())

    def adapt(self, options: dict[str, Any]) -> int:
        import peft

        names = [name for name in LINEAR if name != "gate" or self.model.blocks[0].feed_forward.gate is not None]
        lora = peft.LoraConfig(r=options["rank"], lora_alpha=options["alpha"], target_modules=names)
        self.model = peft.inject_adapter_in_model(lora, self.model)
        for name, weight in self.model.named_parameters():
            weight.requires_grad_("lora_" in name)
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)

    def learn(self, data: list[tuple[np.ndarray, ...]]) -> None:
        self._all = data
        self.optimizer = adamw(self.model)
        self.forward: nn.Module = self.model
        if self.size > 1:
            self.forward = nn.parallel.DistributedDataParallel(self.model, gradient_as_bucket_view=True)

    def cut(self, rows: int, passes: int, reduction: str) -> None:
        self.apart, self.passes = rows > 0 and self.size > 1, passes
        data = self.rows_of(self._all, rows) if rows else self._all
        self.data = [tuple(map(torch.from_numpy, batch)) for batch in data]

    def step(self, index: int) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        with self.forward.no_sync() if self.apart else nullcontext():
            for micro in range(self.passes):
                loss = self.forward(*self.data[(index + micro) % len(self.data)]) / self.passes
                loss.backward()
                total += loss.item()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.CLIP)
        self.optimizer.step()
        return total


if __name__ == "__main__":
    join(Data())
