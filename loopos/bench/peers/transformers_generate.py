"""Hugging Face transformers, used as its documentation does: AutoModelForCausalLM, ``generate`` with its cache, and a
training loop of PyTorch around it (float32, fused AdamW, clipping)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from transformers import AutoModelForCausalLM

from loopos.bench import settings
from loopos.bench.peers.serve import Engine, serve
from loopos.bench.peers.torch_model import adamw


class Transformers(Engine):
    name = f"transformers {transformers.__version__} (torch {torch.__version__})"

    def use_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def load(self, folder: str, storage: str = "float32") -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, storage)).eval()
        self.model.generation_config.eos_token_id = None  # all tokens that are asked for are generated
        self.model.generation_config.pad_token_id = 0

    def learn(self, data: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.model.train()
        self.optimizer = adamw(self.model)
        self.data = [(torch.from_numpy(ids), torch.from_numpy(targets)) for ids, targets in data]

    def step(self, index: int) -> float:
        ids, targets = self.data[index]
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(input_ids=ids, use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.CLIP)
        self.optimizer.step()
        return loss.item()

    def generate(self, prompt: np.ndarray, count: int) -> np.ndarray:
        ids = torch.from_numpy(prompt)
        with torch.inference_mode():
            return self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count
            ).numpy()


if __name__ == "__main__":
    serve(Transformers())
