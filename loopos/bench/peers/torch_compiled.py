"""PyTorch with torch.compile, which needs a C++ compiler at run time; the first step takes as long as that does."""

from __future__ import annotations

import torch
import torch.nn as nn

from loopos.bench.peers.serve import serve
from loopos.bench.peers.torch_eager import Torch


class Compiled(Torch):
    name = f"torch {torch.__version__} compiled"

    def compiled(self, model: nn.Module) -> nn.Module:
        return torch.compile(model)


if __name__ == "__main__":
    serve(Compiled())
