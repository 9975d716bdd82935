"""The program that is looked at: its model, optimizers, batch and loss, and runs of them that leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .seen import Seen
from .state import dense, kept, seed
from .tree import cloned, scalar, tensors

SEED = 20240229
INTEGERS = ("torch.int64", "torch.int32")


class NotApplicable(Exception):
    """A check has nothing to look at; the reason is the message."""


@dataclass
class Run:
    """One computation of the loss. inputs, outputs: of the model's first call; calls: how often it was called; seen:
    the operations, where they were asked for; gradients: by name, where wanted (None of one that got none); pulls: then
    also the gradients of those outputs, by their path."""

    loss: float
    wants: bool
    inputs: tuple[Any, dict[str, Any]] | None = None
    outputs: Any = None
    calls: int = 0
    training: tuple[bool, ...] = ()
    seen: Seen | None = None
    batch: Any = None
    gradients: dict[str, Any] = field(default_factory=dict)
    pulls: dict[str, Any] = field(default_factory=dict)


@dataclass
class Subject:
    """model, optimizers, batch and loss_fn as the doctor was given them; step: one step of the program's own loop."""

    model: Any
    optimizers: Sequence[Any]
    batch: Any
    loss_fn: Callable[[Any, Any], Any]
    schedulers: Sequence[Any] = ()
    step: Callable[[], Any] | None = None
    batches: Sequence[Any] = ()
    build: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        self.parameters = dict(self.model.named_parameters())
        self.names = {id(parameter): name for name, parameter in self.parameters.items()}
        self.modules = dict(self.model.named_modules())
        self.held = {id(p): p for opt in self.optimizers for group in opt.param_groups for p in group["params"]}
        self._first: Run | None = None
        self._broken = False

    @property
    def trained(self) -> dict[str, Any]:
        """Parameters of the model that want a gradient."""
        return {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}

    @contextmanager
    def kept(self, weights: bool = True) -> Iterator[None]:
        with kept(self.model, self.optimizers, self.schedulers, weights=weights):
            yield

    def first(self) -> Run:
        """The loss and the gradients of the batch as the program computes them, in training mode; computed once.
        NotApplicable when that raised an exception before."""
        if self._broken:
            raise NotApplicable("the loss cannot be computed")
        if self._first is None:
            self._broken = True
            self._first = self.run(train=True, gradients=True, watch=True)
            self._broken = False
        return self._first

    def run(self, *, train: bool | None = None, **how: Any) -> Run:
        """The loss of a batch; afterwards everything is as before. train: the mode; None leaves it. how: as of
        ``compute``."""
        with self.kept(weights=False):
            if train is not None:
                self.model.train(train)
            return self.compute(**how)

    def compute(
        self,
        *,
        gradients: bool = False,
        number: int = SEED,
        batch: Any = None,
        watch: bool = False,
        still: bool = False,
    ) -> Run:
        """The loss of a batch, inside a ``kept`` of the caller's: nothing is put back, gradients stay in ``.grad``.

        number: what the generators are seeded with. watch: operations are recorded. still: dropout is taken out, also
        where it is called as a function."""
        import torch

        from .seen import no_dropout

        batch = cloned(self.batch if batch is None else batch)
        run = Run(0.0, False, batch=batch)

        def before(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            if not run.calls:
                run.inputs = (arguments, keywords)
            run.calls += 1
            run.training += (self.model.training,)

        def after(_: Any, arguments: Any, outputs: Any) -> None:
            if run.outputs is not None:
                return
            run.outputs = outputs
            for name, tensor in tensors(outputs) if gradients else ():
                if tensor.requires_grad:
                    tensor.register_hook(partial(run.pulls.__setitem__, name))

        for parameter in self.model.parameters():
            parameter.grad = None
        seed(number)
        with ExitStack() as stack:
            stack.callback(self.model.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(self.model.register_forward_hook(after).remove)
            if still:
                stack.enter_context(no_dropout())
            if watch:
                run.seen = Seen(self.model)
                stack.enter_context(run.seen)
            stack.enter_context(torch.enable_grad())
            loss = scalar(self.loss_fn(self.model, batch))
        run.loss, run.wants = float(loss.detach()), loss.requires_grad
        if gradients and loss.requires_grad:
            loss.backward()
            run.gradients = {
                name: None if parameter.grad is None else dense(parameter.grad.detach()).clone()
                for name, parameter in self.trained.items()
            }
        return run

    def outputs_are_probabilities(self) -> bool:
        """Whether the first floating-point output of two or more dimensions has rows that sum to 1."""
        found = [t.detach().float() for _, t in tensors(self.first().outputs) if t.is_floating_point() and t.ndim >= 2]
        if not found or found[0].shape[-1] < 2 or not found[0].isfinite().all():
            return False
        return bool(found[0].min() >= 0) and bool((found[0].sum(-1) - 1).abs().max() < 1e-3)

    def ids(self, least: int = 3) -> Any:
        """The token ids (B, T), T >= least, that go into the model; NotApplicable where there are none."""
        for name, tensor in tensors(self.first().inputs):
            named = any(word in name for word in ("label", "target", "mask", "position"))
            if not named and tensor.ndim == 2 and tensor.shape[1] >= least and str(tensor.dtype) in INTEGERS:
                return tensor
        raise NotApplicable("no sequence of ids goes into the model")

    def module_of(self, parameter: str) -> Any:
        return self.modules[parameter.rpartition(".")[0]]

    def rows(self) -> tuple[int, int]:
        """(number of rows, dimension they lie along) of the batch; NotApplicable where that is not to be seen."""
        found = [tensor for _, tensor in tensors(self.batch) if tensor.ndim]
        if not found:
            raise NotApplicable("the batch holds no tensors")
        at = 0
        for module in self.modules.values():
            if getattr(module, "batch_first", True) is False and found[0].ndim > 1:
                at = 1
        sizes = [tensor.shape[at] for tensor in found if tensor.ndim > at]
        count = max(set(sizes), key=sizes.count)
        if any(tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1] == count for tensor in found):
            raise NotApplicable("a square matrix of the batch couples its rows")
        return count, at


def listed(names: Sequence[str], most: int = 4) -> str:
    """a, b and 3 more."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
