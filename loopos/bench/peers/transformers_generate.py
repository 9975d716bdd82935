"""Hugging Face transformers, used as its documentation does: AutoModelForCausalLM and ``generate`` with its cache."""

from __future__ import annotations

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from loopos.bench.peers.serve import Engine, serve


class Transformers(Engine):
    name = f"transformers {transformers.__version__} (torch {torch.__version__})"

    def use_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def load(self, folder: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.model.generation_config.eos_token_id = None  # all tokens that are asked for are generated
        self.model.generation_config.pad_token_id = 0

    def generate(self, prompt: np.ndarray, count: int) -> np.ndarray:
        ids = torch.from_numpy(prompt)
        with torch.inference_mode():
            return self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count
            ).numpy()


if __name__ == "__main__":
    serve(Transformers())
