"""PyTorch, run eagerly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn as nn

from loopos.bench import settings
from loopos.bench.peers import torch_operations
from loopos.bench.peers.serve import Engine, serve
from loopos.bench.peers.torch_model import Transformer, adamw
from loopos.bench.settings import Setting


class Torch(Engine):
    name = f"torch {torch.__version__} eager"

    def use_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def prepare(self, setting: Setting, data: list[tuple[np.ndarray, np.ndarray]]) -> int:
        torch.manual_seed(0)
        self.model = Transformer(setting.config)
        self.optimizer = adamw(self.model)
        self.data = [(torch.from_numpy(ids), torch.from_numpy(targets)) for ids, targets in data]
        self.forward = self.compiled(self.model)
        return sum(weight.numel() for weight in self.model.parameters())

    def compiled(self, model: nn.Module) -> nn.Module:
        return model

    def step(self, index: int) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward(*self.data[index])
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.CLIP)
        self.optimizer.step()
        return loss.item()

    def operation(self, name: str, backward: bool, arrays: dict[str, np.ndarray], options: dict) -> Callable[[], Any]:
        return torch_operations.operation(name, backward, arrays, options)


if __name__ == "__main__":
    serve(Torch())
