"""``loopos.watch``: what LoopOS says of its own runs, said of a PyTorch program (extra ``[torch]``).

The module is callable, so that one line is enough::

    watch = loopos.watch(model, optimizer)
    for batch in data:
        loss = watch.step(lambda: compute_loss(model, batch))

PyTorch is imported by the first use, not by ``import loopos``.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def callback(**options: Any) -> Any:
    """For ``callbacks=[...]`` of transformers' Trainer and of Lightning. options: policy and output_dir, as above."""
    _needs_torch()
    return import_module("loopos.watch.callbacks").callback(**options)


def _needs_torch() -> None:
    try:
        import_module("torch")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "loopos.watch needs PyTorch, which is not installed: pip install 'loopos[torch]'", name="torch"
        ) from error


class _Callable(ModuleType):
    """This module: ``loopos.watch(...)`` is a call of it, ``doctor`` the function of its folder."""

    def __call__(
        self, model: Any, optimizer: Any, *, policy: str = "halt", output_dir: str | os.PathLike | None = None
    ) -> Any:
        """Watch a PyTorch training: returns a :class:`loopos.watch.watcher.Watch`.

        model: a torch.nn.Module; optimizer: a torch.optim.Optimizer or a list of them; policy: what follows a step
        whose loss or gradients are not finite: "halt" raises NonFiniteError before a weight is touched, "skip" leaves
        weights and optimizer as they are and goes on, "warn" says it and lets the update happen; output_dir: where
        metrics.jsonl, bits.jsonl and bundles go; None keeps nothing. TypeError, ValueError for other arguments;
        ModuleNotFoundError without PyTorch."""
        _needs_torch()
        return import_module("loopos.watch.watcher").Watch(model, optimizer, policy=policy, output_dir=output_dir)

    @property
    def doctor(self) -> Any:
        _needs_torch()
        return import_module("loopos.watch.doctor").doctor

    @doctor.setter
    def doctor(self, folder: ModuleType) -> None:
        """The import system puts the folder here; it stays in sys.modules alone."""


sys.modules[__name__].__class__ = _Callable
