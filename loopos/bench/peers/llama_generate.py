"""llama.cpp through llama-cpp-python: the model of a GGUF file, one sequence, greedy."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np

from loopos.bench.peers.serve import Engine, serve


class LlamaCpp(Engine):
    name = f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"

    def use_threads(self, threads: int) -> None:
        self.threads = threads

    def load(self, folder: str, storage: str = "float32") -> None:
        self.model = llama_cpp.Llama(
            str(Path(folder) / f"{storage}.gguf"),
            n_ctx=1024,
            n_batch=512,
            n_threads=self.threads,
            n_threads_batch=self.threads,
            verbose=False,
        )
        self.name = f"{LlamaCpp.name} {storage}"

    def generate(self, prompt: np.ndarray, count: int) -> np.ndarray:
        ids = prompt[0].tolist()
        self.model.reset()
        self.model.eval(ids)
        while True:  # the logits of the last token alone are kept
            logits = llama_cpp.llama_get_logits_ith(self.model.ctx, -1)
            ids.append(int(np.argmax(np.ctypeslib.as_array(logits, (self.model.n_vocab(),)))))
            if len(ids) == prompt.shape[1] + count:
                return np.array([ids])
            self.model.eval(ids[-1:])


if __name__ == "__main__":
    serve(LlamaCpp())
