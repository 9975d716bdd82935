"""Hugging Face peft on transformers, used as its documentation does: get_peft_model, and the training loop of
transformers_generate around it. Its matrices are float32 on a bfloat16 base too, which is its default."""

from __future__ import annotations

from typing import Any

import peft
import torch

from loopos.bench.peers.serve import serve
from loopos.bench.peers.transformers_generate import Transformers


class Peft(Transformers):
    name = f"peft {peft.__version__} (torch {torch.__version__})"

    def adapt(self, options: dict[str, Any]) -> int:
        names = {"rank": "r", "alpha": "lora_alpha", "rslora": "use_rslora", "dora": "use_dora"}
        given = {names[name]: value for name, value in options.items()}
        settings = peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **given)
        self.model = peft.get_peft_model(self.model, settings)
        return sum(each.numel() for each in self.model.parameters() if each.requires_grad)


if __name__ == "__main__":
    serve(Peft())
