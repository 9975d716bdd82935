"""Trains four different models in good health and counts alarms, of which there must be none.

An alarm is a NonFiniteError, a warning, a step in which a floating-point flag was raised, or a refused update. What the
monitor beside the run finds implausible is counted apart: a spike may be real. Exit status 1 when there was an alarm.

    python benchmarks/false_alarms.py --steps 2500        # of each model: 10,000 in all, a few minutes
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import loopos
from loopos.monitor.monitor import Monitor

TEXT = Path(__file__).resolve().parents[1] / "README.md"
SIZE = {"vocab_size": 256, "context_length": 32, "n_layer": 2, "n_head": 4, "d_model": 64}
MODELS: dict[str, dict[str, Any]] = {
    "gpt": {
        "config": {"norm": "layernorm", "activation": "gelu_tanh", "bias": True},
        "train": {"learning_rate": 1e-3, "warmup_steps": 20},
    },
    "llama": {
        "config": {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False, "n_kv_head": 2},
        "train": {"learning_rate": 3e-3, "max_grad_norm": None, "optimizer": "adam", "weight_decay": 0.0},
    },
    "relu, dropout, two micro-batches, half of the labels masked": {
        "config": {"norm": "layernorm", "activation": "relu", "bias": False, "dropout": 0.2, "tie_embeddings": False},
        "train": {"learning_rate": 1e-3, "grad_accum": 2, "lr_schedule": "linear"},
        "masked": True,
    },
    "float64, one head of 64 numbers, plain SGD": {
        "config": {"norm": "rmsnorm", "activation": "gelu", "n_head": 1, "n_layer": 3},
        "train": {"learning_rate": 0.3, "optimizer": "sgd", "lr_schedule": "constant", "weight_decay": 0.0},
        "dtype": "float64",
    },
}


class Half:
    """A data set whose second half of each row is not scored; every eighth batch has a row without any label."""

    def __init__(self, ids: np.ndarray):
        from loopos.data.batches import TokenStream

        self._stream = TokenStream(ids, seq_len=32, batch_size=8, grad_accum=2, vocab_size=256)

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        ids, targets = self._stream.batch(step, micro)
        targets = np.array(targets)
        targets[:, 16:] = -100
        if step % 8 == 0:
            targets[0] = -100
        return ids, targets


class Watch:
    def __init__(self) -> None:
        self.flags, self.monitor, self.found = 0, Monitor(vocab_size=256), []

    def on_train_begin(self, info: dict[str, Any]) -> None:
        loopos._core.raised_flags()

    def on_step_end(self, info: dict[str, Any]) -> None:
        self.flags += any(loopos._core.raised_flags().values())
        self.found += self.monitor.observe(info["step"], loss=info["loss"], grad_norm=info["grad_norm"])


def run(name: str, steps: int) -> tuple[list[str], list[str], float]:
    """Alarms, what the monitor found, and the last loss."""
    setting, watch = MODELS[name], Watch()
    model = loopos.Model(
        loopos.ModelConfig(**(SIZE | setting["config"])), seed=1, dtype=setting.get("dtype", "float32")
    )
    ids = np.frombuffer(TEXT.read_bytes(), np.uint8).astype(np.int64)
    data = Half(ids) if setting.get("masked") else ids
    alarms: list[str] = []
    history: list[dict[str, Any]] = [{"nonfinite": 0, "loss": float("nan")}]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            history = loopos.train(
                model, data, max_steps=steps, batch_size=8, callbacks=[watch], progress=False, **setting["train"]
            ).history
        except loopos.NonFiniteError as error:
            alarms.append(str(error))
    alarms += [str(warning.message) for warning in caught]
    if watch.flags:
        alarms.append(f"floating-point flags were up in {watch.flags} steps")
    if refused := history[-1]["nonfinite"]:
        alarms.append(f"{refused} updates were refused")
    return alarms, [str(found) for found in watch.found], history[-1]["loss"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2500, help="of each model")
    steps, total = parser.parse_args().steps, 0
    for name in MODELS:
        alarms, found, loss = run(name, steps)
        total += len(alarms)
        print(f"{name}: {steps} steps, {len(alarms)} alarms, {len(found)} remarks of the monitor, last loss {loss:.3f}")
        for text in [*alarms, *found]:
            print(f"    {text}")
    print(f"{steps * len(MODELS)} steps, {total} alarms")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
