"""What programs wrap models and optimizers in: data parallelism, a compiler, accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_COMMUNICATING = ("DistributedDataParallel", "DataParallel")


def bare(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside wrappers that communicate: a repetition on one rank must not wait for the others."""
    while type(model).__name__ in _COMMUNICATING:
        model = model.module
    return model


def innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer whose step changes the weights: accelerate's holds it."""
    while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def is_parallel(model: torch.nn.Module) -> bool:
    return type(model).__name__ == "DistributedDataParallel"


@contextmanager
def without_sync(model: torch.nn.Module) -> Iterator[None]:
    """Meanwhile neither gradients nor buffers are exchanged between ranks."""
    names = ("require_backward_grad_sync", "require_forward_param_sync") if is_parallel(model) else ()
    before = {name: getattr(model, name) for name in names}
    for name in names:
        setattr(model, name, False)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)


def is_compiled(model: torch.nn.Module) -> bool:
    return any(
        type(each).__name__ == "OptimizedModule" or getattr(each, "_compiled_call_impl", None) is not None
        for each in model.modules()
    )


def uncompiled(model: torch.nn.Module, *hooks: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """Hooks that the compiler of a model leaves alone: they would be compiled with it."""
    if not is_compiled(model):
        return hooks
    return tuple(torch.compiler.disable(hook) for hook in hooks)


def path_of(name: str) -> str:
    """The path of a module as the program has it, without the wrappers."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")
