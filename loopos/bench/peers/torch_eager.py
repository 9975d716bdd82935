"""PyTorch, run eagerly: in float32, with float32 products of precision "medium", or with autocast to bfloat16.

``torch.set_float32_matmul_precision("high")`` is not here: on a CPU it changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn as nn

from loopos.bench import settings
from loopos.bench.peers import torch_operations, torch_pictures
from loopos.bench.peers.serve import Engine, serve
from loopos.bench.peers.torch_model import Transformer, adamw
from loopos.bench.picture_settings import PictureSetting
from loopos.bench.settings import Setting


class Torch(Engine):
    name = f"torch {torch.__version__} eager"

    cast: Callable[[], AbstractContextManager] = staticmethod(nullcontext)  # around forward
    dtype = torch.float32  # of the arrays of an operation

    def use_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def use_precision(self, precision: str) -> None:
        """ "medium": float32 in and out, the factors of products rounded to bfloat16; "autocast": forward as PyTorch's
        documentation has it; "bfloat16": operations, on arrays that are bfloat16 already."""
        if precision == "medium":
            torch.set_float32_matmul_precision("medium")
        elif precision == "autocast":
            self.cast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
        elif precision == "bfloat16":
            self.dtype = torch.bfloat16
        else:
            raise ValueError(f"no precision {precision!r}")
        self.name = f"{type(self).name}, {precision}"

    def prepare(self, setting: Setting | PictureSetting, data: list[tuple[np.ndarray, ...]]) -> int:
        torch.manual_seed(0)
        of_pictures = isinstance(setting, PictureSetting)
        self.model = torch_pictures.build(setting.config) if of_pictures else Transformer(setting.config)
        self.optimizer = adamw(self.model)
        self.data = [tuple(map(torch.from_numpy, batch)) for batch in data]
        self.forward = self.compiled(self.model)
        return sum(weight.numel() for weight in self.model.parameters())

    def begin(self, weights: Mapping[str, np.ndarray]) -> None:
        torch_pictures.take(self.model, weights)

    def compiled(self, model: nn.Module) -> nn.Module:
        return model

    def step(self, index: int) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        with self.cast():
            loss = self.forward(*self.data[index])
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.CLIP)
        self.optimizer.step()
        return loss.item()

    def operation(self, name: str, backward: bool, arrays: dict[str, np.ndarray], options: dict) -> Callable[[], Any]:
        return torch_operations.operation(name, backward, arrays, options, self.dtype)


if __name__ == "__main__":
    serve(Torch())
