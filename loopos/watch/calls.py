"""What a step needs to be done again: the calls of the model or of the user's function, with the state they began from.

Tensors are kept by reference. Only what a forward pass writes is copied: buffers such as the running mean of a batch
norm.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from .finite import parameters_of, plain
from .numpy_state import NumpyState

_NUMPY = NumpyState()


class Randomness:
    """The state of PyTorch's, numpy's and Python's generators, as it was when this was made."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        self.numpy, self.python = _NUMPY.now(), random.getstate()

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)  # noqa: NPY002 (the user's, not ours)
        random.setstate(self.python)


class Buffers:
    """Copies of those buffers of a model that its forward pass writes. A first pass, before which all are copied, shows
    which; another follows when PyTorch's own count of writes says that there are more. (A batch norm writes its running
    mean without being counted, and its number of batches with.)"""

    def __init__(self, model: torch.nn.Module):
        self._model = model
        self._written: set[str] | None = None

    @property
    def written(self) -> set[str] | None:
        """The names of those that the forward pass writes; None as long as it is not known."""
        return self._written

    def take(self) -> dict[str, tuple[torch.Tensor, torch.Tensor, int]]:
        """By name: (the buffer, a copy of it or an empty tensor, how often it had been written)."""
        copy = self._written
        return {
            name: (buffer, buffer.detach().clone() if copy is None or name in copy else _NONE, buffer._version)
            for name, buffer in self._model.named_buffers()
        }

    def learn(self, taken: Mapping[str, tuple[torch.Tensor, torch.Tensor, int]]) -> None:
        """After a forward pass that began with ``taken``."""
        if self._written is None:
            changed = (name for name, (buffer, copy, _) in taken.items() if not torch.equal(buffer, copy))
            self._written = {*changed, *self._counted(taken)}
        elif self._counted(taken) - self._written:
            self._written = None

    @staticmethod
    def _counted(taken: Mapping[str, tuple[torch.Tensor, torch.Tensor, int]]) -> set[str]:
        return {name for name, (buffer, _, version) in taken.items() if buffer._version != version}


_NONE = torch.empty(0)


class Call:
    """One call, repeatable. run: the user's function or, of a call of the model that was seen by a hook, one that calls
    it again with the same inputs; inputs: what the model was given; outputs of the first time are not kept."""

    def __init__(self, run: Callable[[], Any], inputs: tuple[tuple[Any, ...], dict[str, Any]], buffers: Buffers):
        self.run = run
        self.function: Any = None  # the user's, of a call by watch.step
        self._buffers = buffers
        self.randomness, self.taken = Randomness(), buffers.take()
        self.versions: list[tuple[str, torch.Tensor, int | None]] = []
        self.see(*inputs)
        self.loss: torch.Tensor | None = None  # as it came the first time, detached
        self.gradients: dict[int, torch.Tensor] = {}  # of the model's outputs, where the loss is not known
        self.of_backward = False  # the loss is what ``backward`` was given: a GradScaler may have scaled it
        self.reached = False  # a backward pass came to it
        self.autocast = _autocast_now()

    def see(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What the model is given."""
        self.inputs = args, kwargs
        named = {**dict(enumerate(args)), **kwargs}
        self.versions = [(name, tensor, _version(tensor)) for name, tensor in tensors_in(named)]

    def done(self) -> None:
        self._buffers.learn(self.taken)

    def gave(self, loss: torch.Tensor) -> None:
        """The loss that came of the call."""
        self.loss = loss.detach()
        if loss.requires_grad:
            loss.register_hook(partial(_reach, weakref.ref(self)))

    def changed_inputs(self) -> list[str]:
        """The inputs that were written since the call."""
        return [name for name, tensor, version in self.versions if version is not None and tensor._version != version]

    @contextmanager
    def again(self) -> Iterator[None]:
        """The state that the call began from."""
        self.randomness.restore()
        _write_back((buffer, copy) for buffer, copy, _ in self.taken.values() if copy is not _NONE)
        with ExitStack() as stack:
            for device, dtype in self.autocast:
                stack.enter_context(torch.autocast(device, dtype=dtype))
            yield


def _reach(call: weakref.ref, _: torch.Tensor) -> None:
    if (here := call()) is not None:
        here.reached = True


def thrown_away(calls: Iterable[Call], optimizers: Iterable[torch.optim.Optimizer]) -> bool:
    """Whether a backward pass has come to one of the calls, and no gradient is left of it: the program cleared them
    without a step, as it does where a GradScaler or the program itself refuses one."""
    if not any(call.reached for call in calls):
        return False
    gradients = (each.grad for each in parameters_of(optimizers) if each.grad is not None)
    dense = (plain(gradient) for gradient in sorted(gradients, key=lambda each: each.numel()))
    return not any(bool(gradient.any()) for gradient in dense)


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _autocast_now() -> list[tuple[str, torch.dtype]]:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return [(device, torch.get_autocast_dtype(device)) for device in devices if torch.is_autocast_enabled(device)]


@contextmanager
def state_kept(model: torch.nn.Module, parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """Whatever is done meanwhile, the program finds its gradients, buffers and generators as they were."""
    randomness = Randomness()
    gradients = [(parameter, parameter.grad) for parameter in parameters]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        _write_back(buffers)
        randomness.restore()


def _write_back(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with torch.no_grad():
        for buffer, copy in pairs:
            if not torch.equal(buffer, copy):
                buffer.copy_(copy)


def fresh(value: Any) -> Any:
    """Arguments without the graph that made them, which a backward pass may have freed: those of a GAN's critic."""
    if isinstance(value, torch.Tensor):
        return value if value.grad_fn is None else value.detach().requires_grad_().clone()
    if type(value) is dict:
        return {key: fresh(each) for key, each in value.items()}
    return type(value)(map(fresh, value)) if type(value) in (list, tuple) else value


def tensors_in(value: Any, name: str = "input", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """(a name, the tensor) of all tensors in arguments, lists, mappings and objects that have a ``__dict__``."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif depth > 4:
        return
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from tensors_in(each, f"{name}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for at, each in enumerate(value):
            yield from tensors_in(each, f"{name}[{at}]", depth + 1)
