"""The watch itself: hooks on a model and its optimizers, and what follows a step that is not finite."""

from __future__ import annotations

import math
import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from loopos.errors import Birth
from loopos.monitor.monitor import Alarm

from . import moments, scaling, wrappers
from .calls import Buffers, Call, fresh, thrown_away
from .finite import Norms, parameters_of
from .hits import POLICIES, Hits
from .log import EVERY, Log, ahead_of, rate_of
from .rerun import differentiable, loss_in, loss_in_backward
from .running import Running
from .updates import Saved, is_risky

MOST_CALLS = 4096  # of a model between two steps; a program that never steps keeps no more


class Watch:
    """Watches one model and its optimizers until ``close``; a context manager.

    Before ``optimizer.step`` touches a weight the loss and all gradients are tested. When one is not finite, the step
    is done again under a dispatch mode that finds where the number was born, and the policy decides. Weights,
    gradients, buffers, optimizer and random state are afterwards as they were.

    policy: "halt" raises :class:`loopos.NonFiniteError`; "skip" makes this ``optimizer.step`` change nothing (the third
    in a row raises); "warn" gives a RuntimeWarning and lets the update happen. steps: calls of ``optimizer.step`` so
    far; loss, grad_norm: of the last one (loss: NaN where hooks did not see it)."""

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
        self.model, self.optimizers = model, [wrappers.innermost(each) for each in optimizers]
        self.steps, self.loss, self.grad_norm = 0, math.nan, math.nan
        bare = wrappers.bare(model)
        self._log = Log(bare, output_dir)
        self._hits = Hits(model, self.optimizers, policy, self._log)
        self._calls: list[Call] = []
        self._stepped = False  # the calls that are kept belong to a step that is done
        self._inside = False  # somebody keeps the call itself, or the step is being repeated
        self._buffers = Buffers(bare)
        self._running = Running(bare, self._buffers)
        self._moments = moments.Moments(self.optimizers)
        self._saved: dict[int, Saved] = {}  # of optimizers whose step may go wrong by itself
        before, after = wrappers.uncompiled(model, self._before_forward, self._after_forward)
        self._hooks = [
            *self._moments.hooks,
            model.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
            model.register_forward_hook(after, with_kwargs=True),
        ]
        for each in self.optimizers:
            self._hooks.append(each.register_step_pre_hook(self._before_step))
            self._hooks.append(each.register_step_post_hook(self._after_step))

    @property
    def policy(self) -> str:
        return self._hits.policy

    @property
    def skipped(self) -> int:
        """How many steps changed nothing. With "warn" every update happens, so it is 0."""
        return self._hits.skipped

    @property
    def births(self) -> list[Birth]:
        """What was found so far."""
        return self._hits.births

    @property
    def findings(self) -> list[Alarm]:
        """What the monitor of loss, gradient norm and update ratios told so far, and buffers that became infinite."""
        return self._log.findings

    # what a program calls

    def step(self, fn: Callable[[], Any] | Sequence[Callable[[], Any]], *, scaler: Any = None) -> torch.Tensor:
        """One step: zero_grad, ``fn()``, backward, ``optimizer.step``; the loss, detached.

        fn: gives the loss, a scalar, or something with a ``loss``; called again should there be a hit, so it takes its
        batch from outside. A list of functions is one step of so many micro-batches, whose gradients add up. scaler: a
        torch.amp.GradScaler; a gradient that only its scale made infinite is left to it."""
        if self.model is None:
            raise RuntimeError("loopos.watch: this watch is closed")
        for each in self.optimizers:
            each.zero_grad(set_to_none=True)
        self._forget()  # what a hook saw before these gradients were cleared is no part of this step
        losses = []
        functions = [fn] if callable(fn) else list(fn)
        for number, each in enumerate(functions):
            with wrappers.without_sync(self.model) if number + 1 < len(functions) else nullcontext():
                call = self._begin(each, ((), {}), each)
                try:
                    loss = loss_in(each())
                    if loss is None:
                        raise TypeError(
                            "watch.step: the function must return the loss, a scalar tensor that requires a gradient"
                        )
                    call.done()
                    call.loss = loss.detach()
                    self._inside = False
                    losses.append(call.loss)
                    (loss if scaler is None else scaler.scale(loss)).backward()
                finally:
                    self._inside = False
        scaled = None if scaler is None else scaling.Scaled(scaler, self.optimizers)
        for each in self.optimizers:
            if scaled is None:
                each.step()
            elif scaled.leaves(each):
                self._left_to_scaler(scaled, each)
            else:
                scaler.step(each)
        if scaler is not None:
            scaler.update()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def begin(self, run: Callable[[], Any], inputs: Any) -> Call:
        """A call that belongs to the step that is being made: ``run()`` does its forward pass again. Until ``seen``
        calls of the model are part of it."""
        self._clear()
        return self._begin(run, inputs)

    def _begin(self, run: Callable[[], Any], inputs: Any, function: Any = None) -> Call:
        call = Call(run, inputs, self._buffers)
        call.function = function
        self._calls.append(call)
        self._inside = True
        return call

    def seen(self, call: Call, loss: torch.Tensor | None) -> None:
        """The forward pass of ``call`` is over."""
        call.done()
        if loss is not None:
            call.gave(loss)
        self._inside = False

    def close(self) -> None:
        """Take the hooks off and close the logs. Closing twice is harmless."""
        if self.model is not None and (self.policy == "skip" or not self.births):
            self._look_at_buffers()
        for hook in self._hooks:
            hook.remove()
        self._log.close()
        self._hooks, self._calls, self.model = [], [], None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # hooks

    def _clear(self) -> None:
        if self._stepped or len(self._calls) >= MOST_CALLS or thrown_away(self._calls, self.optimizers):
            self._forget()

    def _forget(self) -> None:
        """A new step begins."""
        self._calls, self._stepped = [], False
        self._hits.forget()

    def _calls_are_bad(self) -> bool:
        return not all(math.isfinite(loss) for loss in self._losses())

    def _before_forward(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if self._inside:
            if self._calls and self._calls[-1].inputs == ((), {}):
                self._calls[-1].see(args, kwargs)
            return
        if not torch.is_grad_enabled():
            return
        if not self._stepped and self.policy == "halt" and self._calls_are_bad():
            doubtful = scaling.may_be_the_scale(self._calls)  # a step that never came: a GradScaler refused it, say
            self._judge([], self.optimizers[0], self.steps + 1, only_if_found=doubtful)
        self._clear()

        def run() -> Any:
            again, named = fresh((args, kwargs))
            return wrappers.bare(self.model)(*again, **named)

        self._calls.append(Call(run, (args, kwargs), self._buffers))

    def _after_forward(self, module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._inside or not torch.is_grad_enabled() or not self._calls or self._stepped:
            return
        call = self._calls[-1]
        call.done()
        loss = loss_in(output)
        if loss is not None:
            call.gave(loss)
            return
        for at, tensor in enumerate(differentiable(output)):
            tensor.register_hook(partial(_keep, weakref.ref(call), at))

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        """The test; of an optimizer that is given a closure, after the closure has made the gradients."""
        closure = kwargs.get("closure") or next((each for each in args if callable(each)), None)
        if closure is None:
            self._test(optimizer)
            return None

        again = False  # one step, however often it evaluates

        def tested() -> Any:
            nonlocal again
            result = closure()
            self._test(optimizer, counts=not again)
            again = True
            return result

        if "closure" in kwargs:
            return args, {**kwargs, "closure": tested}
        return tuple(tested if each is closure else each for each in args), kwargs

    def _test(self, optimizer: torch.optim.Optimizer, counts: bool = True) -> None:
        first = optimizer is self.optimizers[0]
        self._stepped = True
        self.steps += first and counts
        scaling.unscale(self._calls)
        losses_are_finite = self._sum_losses()
        spoiled = self._moments.spoiled(optimizer)
        if spoiled is not None:
            birth = moments.birth(optimizer, *spoiled, self._name_of(spoiled[0]), max(self.steps, 1))
            self._hits.state(optimizer, birth, self._calls, max(self.steps, 1), self._numbers(optimizer))
            return
        if getattr(optimizer, "found_inf", None) is not None:
            return  # a GradScaler looks at the gradients of this optimizer itself, inside its step
        held = [each for each in parameters_of([optimizer]) if each.grad is not None]
        norms = Norms([each.grad for each in held])
        self.grad_norm = norms.total if first else self.grad_norm
        if not norms.bad and losses_are_finite:
            if is_risky(optimizer, norms.total):
                self._saved[id(optimizer)] = Saved(optimizer)
            else:
                self._hits.passed()
            if first and counts:
                self._log.before(self.steps)
                if self.steps % EVERY == 0:
                    self._look_at_buffers()
            return
        self._judge([held[at] for at in norms.bad], optimizer, max(self.steps, 1))

    def _look_at_buffers(self) -> None:
        found = self._running.look(self.steps)
        self._log.tell(self.steps, found)
        for alarm in found:
            warnings.warn(f"loopos.watch: {alarm}", RuntimeWarning, stacklevel=2)

    def _sum_losses(self) -> bool:
        """Of the calls of this step; whether all of them that are known are finite."""
        losses = self._losses()
        self.loss = sum(losses) if losses else math.nan
        return all(map(math.isfinite, losses))

    def _losses(self) -> list[float]:
        """Of the calls of this step, where they are known."""
        return [float(call.loss) for call in self._calls if call.loss is not None]

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        saved = self._saved.pop(id(optimizer), None)
        refused = self._hits.put_back(optimizer) or (saved is not None and self._undone(saved, optimizer))
        if optimizer is self.optimizers[0] and not refused:
            counts = self._hits.counts(self.steps)
            self._log.after(self.steps, self._numbers(optimizer), counts, ahead_of(optimizer))

    def _undone(self, saved: Saved, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the step made a weight or a moment infinite; then all are as before it, but with "warn"."""
        spoiled = saved.spoiled()
        if spoiled is None:
            self._hits.passed()
            return False
        weight, result = spoiled
        birth = saved.birth(weight, result, self._name_of(weight), max(self.steps, 1))
        if self.policy != "warn":
            saved.restore()
        self._hits.update(birth, self._calls, max(self.steps, 1), self._numbers(optimizer))
        return True

    def _name_of(self, weight: torch.nn.Parameter) -> str:
        named = wrappers.bare(self.model).named_parameters()
        return next((name for name, each in named if each is weight), "parameter")

    def _numbers(self, optimizer: torch.optim.Optimizer, nan: bool = False) -> dict[str, float]:
        """nan: of a step whose loss is perhaps not finite; else a NaN is a loss that nobody saw."""
        known = {"loss": self.loss} if nan or not math.isnan(self.loss) else {}
        rate = {"learning_rate": rate_of(optimizer)} if any("lr" in each for each in optimizer.param_groups) else {}
        return {**known, "grad_norm": self.grad_norm, **rate}

    def _judge(self, bad: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, step: int, **how: bool) -> None:
        self._inside = True
        try:
            self._hits.hit(optimizer, bad, self._calls, step, self._numbers(optimizer, nan=True), **how)
        finally:
            self._inside = False

    def _left_to_scaler(self, scaled: scaling.Scaled, optimizer: torch.optim.Optimizer) -> None:
        """Gradients that are not finite under a scale: the scaler's own affair, unless the step is bad without it."""
        self._stepped = True
        self._sum_losses()
        if scaled.in_a_row(optimizer) > 1 or self._calls_are_bad():
            self._judge([], optimizer, self.steps + 1, only_if_found=True)
        scaled.skip(optimizer)
        self._hits.put_back(optimizer)


def _keep(call: weakref.ref, at: int, gradient: torch.Tensor) -> None:
    here = call()
    if here is not None:
        here.reached = True
        if here.loss is None:
            here.loss, here.of_backward = loss_in_backward(), True
        before = here.gradients.get(at)
        here.gradients[at] = gradient if before is None else before + gradient
