"""Callbacks of transformers' Trainer and of Lightning. One object is both, so that ``loopos.watch.callback()`` fits
either: what is not installed is left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .watcher import Watch


class _Shared:
    """watch: the :class:`loopos.watch.watcher.Watch` of the training, None before it begins and after it ends."""

    def __init__(self, *, policy: str = "halt", output_dir: str | os.PathLike | None = None):
        super().__init__()
        self._options = {"policy": policy, "output_dir": output_dir}
        self.watch: Watch | None = None

    def _begin(self, model: Any, optimizers: Any, step: int) -> None:
        self._end()
        self.watch = Watch(model, optimizers, **self._options)
        self.watch.steps = step

    def _end(self) -> None:
        if self.watch is not None:
            self.watch.close()


def callback(*, policy: str = "halt", output_dir: str | os.PathLike | None = None) -> Any:
    """A callback for the trainers that this process has imported: for ``callbacks=[...]`` of transformers' and of
    Lightning's Trainer. A loop of accelerate needs none: ``loopos.watch(model, optimizer)`` takes what
    ``accelerator.prepare`` gave. RuntimeError when neither is imported."""
    bases = [_Shared]
    if "transformers" in sys.modules:
        bases.append(_of_transformers())
    bases += _of_lightning()
    if len(bases) == 1:
        raise RuntimeError(
            "loopos.watch.callback: import transformers or lightning first: the callback is made for what is there. A "
            "loop of your own, or of accelerate, takes loopos.watch(model, optimizer)"
        )
    kind = type("WatchCallback", tuple(bases), {"__doc__": callback.__doc__})
    return kind(policy=policy, output_dir=output_dir)


def _of_transformers() -> type:
    from transformers import TrainerCallback

    class ForTransformers(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any = None, control: Any = None, **given: Any) -> None:
            self._begin(given["model"], given["optimizer"], state.global_step)

        def on_train_end(self, *args: Any, **given: Any) -> None:
            self._end()

    return ForTransformers


def _of_lightning() -> list[type]:
    found = []
    for name in ("lightning.pytorch", "pytorch_lightning"):
        if name in sys.modules:
            found.append(_lightning(sys.modules[name].Callback))
    return found


def _lightning(base: type) -> type:
    class ForLightning(base):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            self._begin(module, list(trainer.optimizers), trainer.global_step)

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            def run() -> Any:
                with _silent(module):
                    return trainer.strategy.training_step(batch, batch_idx)

            self._call = self.watch.begin(run, ((batch,), {}))

        def on_before_backward(self, trainer: Any, module: Any, loss: Any) -> None:
            whole = trainer.accumulate_grad_batches == 1  # else Lightning has divided it
            self.watch.seen(self._call, loss if whole else None)

        def on_train_end(self, trainer: Any, module: Any) -> None:
            self._end()

    return ForLightning


@contextmanager
def _silent(module: Any) -> Iterator[None]:
    """A repeated training step logs nothing."""
    names = ("log", "log_dict")
    for name in names:
        object.__setattr__(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name in names:
            object.__delattr__(module, name)
