"""The watch itself: hooks on a model and its optimizers, and what follows a step that is not finite."""

from __future__ import annotations

import math
import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from loopos.errors import Birth, NonFiniteError

from .calls import Buffers, Call
from .finite import Norms, is_finite, parameters_of
from .rerun import Rerun, differentiable, loss_in, rerun

POLICIES = ("halt", "skip", "warn")
MAX_IN_A_ROW = 2  # refused steps; the third raises, as in our own runs
MOST_CALLS = 4096  # of a model between two steps; a program that never steps keeps no more


class Watch:
    """Watches one model and its optimizers until ``close``; a context manager.

    Before ``optimizer.step`` touches a weight the loss and all gradients are tested. When one is not finite, the step
    is done again under a dispatch mode that finds where the number was born, and the policy decides. Weights,
    gradients, buffers, optimizer and random state are afterwards as they were.

    policy: "halt" raises :class:`loopos.NonFiniteError`; "skip" makes this ``optimizer.step`` change nothing (the third
    in a row raises); "warn" gives a RuntimeWarning and lets the update happen. steps: calls of ``optimizer.step`` so
    far; skipped: how many of them were refused; births: what was found."""

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        *,
        policy: str = "halt",
        output_dir: str | os.PathLike | None = None,
    ):
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"loopos.watch: model must be a torch.nn.Module, got {type(model).__name__}")
        optimizers = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
        for each in optimizers:
            if not isinstance(each, torch.optim.Optimizer):
                raise TypeError(
                    "loopos.watch: optimizer must be a torch.optim.Optimizer or a list of them, got "
                    f"{type(each).__name__}"
                )
        if policy not in POLICIES:
            raise ValueError(f"loopos.watch: policy must be one of {', '.join(POLICIES)}, got {policy!r}")
        self.model, self.optimizers, self.policy = model, optimizers, policy
        self.steps, self.skipped, self.births = 0, 0, []
        self.loss, self.grad_norm = math.nan, math.nan  # of the last step
        self._in_a_row = 0
        self._calls: list[Call] = []
        self._stepped = False  # the calls that are kept belong to a step that is done
        self._inside = False  # watch.step keeps the call itself; or the step is being repeated
        self._buffers = Buffers(_bare(model))
        self._put_back: dict[int, list[tuple[torch.nn.Parameter, torch.Tensor]]] = {}
        self._hooks = [
            model.register_forward_pre_hook(self._before_forward, with_kwargs=True, prepend=True),
            model.register_forward_hook(self._after_forward, with_kwargs=True),
        ]
        for each in optimizers:
            self._hooks += [
                each.register_step_pre_hook(self._before_step),
                each.register_step_post_hook(self._after_step),
            ]

    # what a program calls

    def step(self, fn: Callable[[], torch.Tensor] | Sequence[Callable[[], torch.Tensor]], *, scaler: Any = None) -> Any:
        """One step: zero_grad, ``fn()``, backward, ``optimizer.step``; the loss, detached.

        fn: gives the loss, a scalar, or something with a ``loss``; called again should there be a hit, so it takes its
        batch from outside. A list of functions is one step of so many micro-batches, whose gradients add up. scaler: a
        torch.amp.GradScaler."""
        if self.model is None:
            raise RuntimeError("loopos.watch: this watch is closed")
        for each in self.optimizers:
            each.zero_grad(set_to_none=True)
        self._begin()
        self._inside, losses = True, []
        try:
            for each in [fn] if callable(fn) else fn:
                call = Call(each, ((), {}), self._buffers)
                self._calls.append(call)
                loss = loss_in(each())
                if loss is None:
                    raise TypeError(
                        "watch.step: the function must return the loss, a scalar tensor that requires a gradient"
                    )
                call.done()
                call.loss = loss.detach()
                losses.append(call.loss)
                (loss if scaler is None else scaler.scale(loss)).backward()
        finally:
            self._inside = False
        for each in self.optimizers:
            if scaler is None:
                each.step()
            else:
                scaler.step(each)
        if scaler is not None:
            scaler.update()
        return losses[0] if callable(fn) else torch.stack(losses).sum()

    def close(self) -> None:
        """Take the hooks off. Closing twice is harmless."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._calls = [], []
        self.model = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # hooks

    def _begin(self) -> None:
        if self._stepped or len(self._calls) >= MOST_CALLS:
            self._calls, self._stepped = [], False

    def _before_forward(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if self._inside:
            if self._calls and not self._calls[-1].inputs[0] and not self._calls[-1].inputs[1]:
                self._calls[-1].see(args, kwargs)
            return
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        self._begin()
        self._calls.append(Call(lambda: _bare(self.model)(*args, **kwargs), (args, kwargs), self._buffers))

    def _after_forward(self, module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._inside or not torch.is_grad_enabled() or not self._calls or self._stepped:
            return
        call = self._calls[-1]
        call.done()
        loss = loss_in(output)
        if loss is not None:
            call.loss = loss.detach()
            return
        for at, tensor in enumerate(differentiable(output)):
            tensor.register_hook(partial(_keep, weakref.ref(call), at))

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._stepped = True
        self.steps += optimizer is self.optimizers[0]
        if getattr(optimizer, "found_inf", None) is not None:
            return  # a GradScaler looks at the gradients of this optimizer itself, inside its step
        held = [each for each in parameters_of([optimizer]) if each.grad is not None]
        norms = Norms([each.grad for each in held])
        self.grad_norm = norms.total
        losses = [call.loss for call in self._calls if call.loss is not None]
        self.loss = float(sum(float(loss) for loss in losses)) if losses else math.nan
        if not norms.bad and all(is_finite(loss) for loss in losses):
            self._in_a_row = 0
            return
        self._hit(optimizer, [held[at] for at in norms.bad])

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, gradient in self._put_back.pop(id(optimizer), ()):
            parameter.grad = gradient

    # a hit

    def _hit(self, optimizer: torch.optim.Optimizer, bad: list[torch.nn.Parameter]) -> None:
        self._inside = True
        try:
            found = rerun(_bare(self.model), self._calls, parameters_of(self.optimizers), self.steps)
        finally:
            self._inside = False
        birth = found.birth or self._unknown(bad, found)
        error = NonFiniteError(birth)
        for note in found.notes:
            error.add(note)
        self.births.append(birth)
        if self.policy == "warn":
            warnings.warn(f"loopos.watch: {error}", RuntimeWarning, stacklevel=6)
            return
        self.skipped += 1
        self._in_a_row += 1
        if self.policy == "halt":
            raise error
        if self._in_a_row > MAX_IN_A_ROW:
            error.add(f"policy='skip': {self._in_a_row} steps in a row had to be refused, so it repeats itself")
            raise error
        held = [(each, each.grad) for each in parameters_of([optimizer]) if each.grad is not None]
        for parameter, _ in held:
            parameter.grad = None  # an optimizer leaves such a parameter and its moments alone
        self._put_back[id(optimizer)] = held

    def _unknown(self, bad: list[torch.nn.Parameter], found: Rerun) -> Birth:
        """The repetition was finite, or could not see where the number came from."""
        names = {id(each): name for name, each in self.model.named_parameters()}
        seen = any("outside the model" in note for note in found.notes)
        if not self._calls:
            why = "no call of the model was seen before this step"
        elif seen:
            why = "it was born in the loss, outside the model"
        else:
            why = "the same step done again was finite"
        if not bad:
            op, tensor, index, value = "loss", "loss", (), self.loss
        else:
            gradient = bad[0].grad.detach()
            gradient = gradient.to_dense() if gradient.layout is not torch.strided else gradient
            at = int((~torch.isfinite(gradient)).reshape(-1).to(torch.uint8).argmax())
            index = (
                tuple(int(i) for i in torch.unravel_index(torch.tensor(at), gradient.shape)) if gradient.ndim else ()
            )
            element = gradient[index]
            value = float(element.abs() if element.is_complex() else element)
            op, tensor = "gradient", f"{names.get(id(bad[0]), 'parameter')}.grad"
        return Birth(
            step=self.steps,
            phase="backward" if bad else "forward",
            layer=None,
            op=op,
            tensor=tensor,
            index=index,
            value=value,
            cause=f"unknown: {why}",
            advice="use watch.step(lambda: loss), which sees the loss too" if seen or not self._calls else
            "seed what is random inside the step, and take the batch outside it, so that it can be repeated",
        )  # fmt: skip


def _bare(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside wrappers that communicate: a repetition on one rank must not wait for the others."""
    while type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
        model = model.module
    return model


def _keep(call: weakref.ref, at: int, gradient: torch.Tensor) -> None:
    here = call()
    if here is not None:
        before = here.gradients.get(at)
        here.gradients[at] = gradient if before is None else before + gradient
