"""A program's state, kept and put back bit for bit: weights, gradients, buffers, modes, optimizers, generators.

Identities are kept too: an optimizer finds its parameters by identity, so numbers are written back into the tensors
that were there, and what was replaced is put into its place again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes, type(None), tuple)


class Randomness:
    """The state of the generators of Python, numpy and torch, of every device that has been used."""

    def __init__(self) -> None:
        import torch

        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        self._cuda = torch.cuda.get_rng_state_all() if cuda else None

    def put_back(self) -> None:
        import torch

        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)


def dense(tensor: Any) -> Any:
    """The numbers of a gradient that may be sparse."""
    return tensor.to_dense() if tensor.is_sparse else tensor


def seed(number: int) -> None:
    """Every global generator starts anew."""
    import torch

    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)


class _Modules:
    """Attributes of every module, and the numbers of their tensors (of parameters only with ``weights``)."""

    def __init__(self, model: Any, weights: bool):
        import torch

        self._model = model
        self._modes = [(module, module.training) for module in model.modules()]
        self._wanted = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
        self._gradients = [(grad, grad.clone()) for _, _, grad in self._wanted if grad is not None]
        self._tables = [
            (table, dict(table)) for module in model.modules() for table in (module._parameters, module._buffers)
        ]
        self._attributes = [
            (
                module,
                set(vars(module)),
                {name: value for name, value in vars(module).items() if _plain_attribute(value)},
            )
            for module in model.modules()
        ]
        tensors = [*model.buffers()]
        for _, _, found in self._attributes:
            tensors += [value for value in found.values() if isinstance(value, torch.Tensor)]
        tensors += list(model.parameters()) if weights else []
        unique = {id(tensor): tensor for tensor in tensors}.values()
        self._numbers = [(tensor, tensor.detach().clone()) for tensor in unique]

    def put_back(self) -> None:
        import torch

        for module, mode in self._modes:
            module.training = mode
        for table, before in self._tables:
            if any(table.get(name) is not value for name, value in before.items()) or len(table) != len(before):
                table.clear()
                table.update(before)
        for module, names, before in self._attributes:
            for name in [name for name in vars(module) if name not in names]:
                del vars(module)[name]
            vars(module).update(before)
        with torch.no_grad():
            for tensor, numbers in [*self._numbers, *self._gradients]:
                if not _same_bits(tensor, numbers):
                    tensor.copy_(numbers)
        for parameter, wanted, grad in self._wanted:
            parameter.requires_grad_(wanted)
            parameter.grad = grad


def _plain_attribute(value: Any) -> bool:
    import torch

    return isinstance(value, (*_PLAIN, torch.Tensor))


def _same_bits(one: Any, two: Any) -> bool:
    import torch

    if one.is_sparse:
        return one._nnz() == two._nnz() and _same_bits(one._values(), two._values())
    return torch.equal(one, two) or bool(((one == two) | ((one != one) & (two != two))).all())


class _Optimizer:
    """An optimizer's moments, groups and counters."""

    def __init__(self, optimizer: Any):
        import torch

        self._optimizer = optimizer
        self._groups = [dict(group) | {"params": list(group["params"])} for group in optimizer.param_groups]
        self._dicts = list(optimizer.param_groups)
        self._state = {key: dict(value) for key, value in optimizer.state.items()}
        values = [value for state in self._state.values() for value in state.values()]
        self._numbers = [(value, value.clone()) for value in values if isinstance(value, torch.Tensor)]
        rest = {name: value for name, value in vars(optimizer).items() if name not in ("state", "param_groups")}
        self._rest = {name: value for name, value in rest.items() if isinstance(value, _PLAIN)}
        held = [parameter for group in self._groups for parameter in group["params"]]
        self._held = [(parameter, parameter.grad, parameter.detach().clone()) for parameter in held]

    def put_back(self) -> None:
        import torch

        optimizer = self._optimizer
        with torch.no_grad():
            for value, numbers in self._numbers:
                value.copy_(numbers)
            for parameter, grad, numbers in self._held:
                if not _same_bits(parameter, numbers):
                    parameter.copy_(numbers)
                parameter.grad = grad
        optimizer.state.clear()
        for key, state in self._state.items():
            optimizer.state[key] = state
        for group, before in zip(self._dicts, self._groups, strict=True):
            group.clear()
            group.update(before)
        optimizer.param_groups[:] = self._dicts
        for name in [name for name in vars(optimizer) if isinstance(vars(optimizer)[name], _PLAIN)]:
            if name not in self._rest and name not in ("state", "param_groups"):
                delattr(optimizer, name)
        vars(optimizer).update(self._rest)


class _Scheduler:
    """The plain attributes of a scheduler, and those of the schedulers that it holds (SequentialLR, accelerate's).
    Objects keep their identity: a copied scheduler would move the rate of a copied optimizer."""

    def __init__(self, scheduler: Any):
        self._state = [(each, _copied(vars(each))) for each in _with_inner(scheduler)]

    def put_back(self) -> None:
        for each, state in self._state:
            vars(each).update(_copied(state))


def _with_inner(scheduler: Any) -> Iterator[Any]:
    yield scheduler
    within = getattr(scheduler, "scheduler", None)
    for inner in [*getattr(scheduler, "_schedulers", ()), *([] if within is None else [within])]:
        yield from _with_inner(inner)


def _copied(value: Any) -> Any:
    """Lists and dicts anew, whatever else is in them as it is."""
    if type(value) is dict:
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if type(value) is list else value


@contextmanager
def kept(
    model: Any, optimizers: Iterable[Any] = (), schedulers: Iterable[Any] = (), *, weights: bool = True
) -> Iterator[None]:
    """Within it anything may be done to a program; afterwards it is as it was, bit for bit.

    weights: False where nothing writes into parameters, to save their copies."""
    parts = [Randomness(), _Modules(model, weights)]
    parts += [_Optimizer(each) for each in optimizers]
    parts += [_Scheduler(each) for each in schedulers]
    try:
        yield
    finally:
        for part in reversed(parts):
            part.put_back()


def fingerprint(model: Any, optimizers: Iterable[Any] = ()) -> list[Any]:
    """Everything that ``kept`` promises, as plain values: two are equal when no bit has changed."""
    import torch

    def bits(tensor: Any) -> Any:
        raw = dense(tensor.detach()).cpu().contiguous().reshape(-1)
        return id(tensor), tuple(tensor.shape), raw.view(torch.uint8).numpy().tobytes() if raw.numel() else b""

    found: list[Any] = [torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state())]  # noqa: NPY002
    for name, parameter in model.named_parameters(remove_duplicate=False):
        grad = None if parameter.grad is None else bits(parameter.grad)
        found.append((name, bits(parameter), parameter.requires_grad, grad))
    found += [(name, bits(buffer)) for name, buffer in model.named_buffers(remove_duplicate=False)]
    found += [(name, module.training) for name, module in model.named_modules()]
    for optimizer in optimizers:
        found += [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        found += [[id(parameter) for parameter in group["params"]] for group in optimizer.param_groups]
        for key, state in optimizer.state.items():
            plain = {k: bits(v) if isinstance(v, torch.Tensor) else v for k, v in state.items()}
            found.append((id(key), plain))
    return found
