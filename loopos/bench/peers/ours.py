"""LoopOS, by the way that loopos.train goes: :class:`loopos.run.updates.Updater` and the training optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import loopos
from loopos.bench import settings
from loopos.bench.peers import ours_operations
from loopos.bench.peers.serve import Engine, serve
from loopos.bench.picture_settings import PictureSetting
from loopos.bench.settings import Setting
from loopos.optim.training import for_training
from loopos.run.kinds import objective_again
from loopos.run.updates import Updater
from loopos.training import default_settings


class _Source:
    """The batches in turn, as loopos.train takes them."""

    def __init__(self, data: list[tuple[np.ndarray, np.ndarray]]):
        self._data = data

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        return self._data[step % len(self._data)]


class LoopOS(Engine):
    name = f"loopos {loopos.__version__}"
    precision = "float32"

    def use_threads(self, threads: int) -> None:
        loopos.set_num_threads(threads)

    def use_precision(self, precision: str) -> None:
        self.precision = precision
        self.name = f"{LoopOS.name} {precision}"

    def prepare(self, setting: Setting | PictureSetting, data: list[tuple[np.ndarray, ...]]) -> int:
        if isinstance(setting, PictureSetting):
            self.model = setting.model(self.precision)
        else:
            self.model = loopos.Model(setting.config, seed=0, precision=self.precision)
        self.learn(data)
        return sum(each.size for each in self.model.parameters().values())

    def begin(self, weights: Mapping[str, np.ndarray]) -> None:
        for name, view in self.model.parameters().items():
            view[...] = weights[name]

    def learn(self, data: list[tuple[np.ndarray, ...]]) -> None:
        given = default_settings(
            betas=settings.BETAS, eps=settings.EPS, weight_decay=settings.WEIGHT_DECAY, max_grad_norm=settings.CLIP
        )
        optimizer = for_training(model=self.model, **given.update_rule())
        objective = objective_again(self.model, given)
        self._update = Updater(self.model, optimizer, _Source(data), given, lambda: None, objective=objective)

    def step(self, index: int) -> float:
        update = self._update(index, settings.LEARNING_RATE)
        if not update.applied:
            raise FloatingPointError(f"the step was refused: {update.birth}")
        return update.loss

    def operation(self, name: str, backward: bool, arrays: dict[str, np.ndarray], options: dict) -> Callable[[], Any]:
        return ours_operations.operation(name, backward, arrays, options, self.precision)

    def load(self, folder: str, storage: str = "float32") -> None:
        kept = {} if storage == "float32" else {"weights": storage}
        self.model = loopos.Model.from_pretrained(folder, dtype="float32", precision=self.precision, **kept)

    def adapt(self, options: dict[str, Any]) -> int:
        self.model.add_adapter(loopos.LoRA(**options))
        return sum(each.size for each in self.model.parameters(trainable=True).values())

    def generate(self, prompt: np.ndarray, count: int) -> np.ndarray:
        return self.model.generate(prompt, count, temperature=0)


if __name__ == "__main__":
    serve(LoopOS())
