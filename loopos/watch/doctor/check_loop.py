"""The program's own loop, of which ``step()`` is one step: what it does around the loss, and in which order."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from loopos.health.doctor.report import FAIL, OK, WARN, Check

from .state import dense, seed
from .subject import SEED, NotApplicable, Subject, listed

STEPS = 3  # updates that are waited for
MOST = 16  # calls of step() for them: gradients may be accumulated


class _Diary:
    """What happened in some calls of step(), in order."""

    def __init__(self, subject: Subject):
        self.subject, self.order = subject, []
        self.updates, self.backward = 0, 0
        self.stale: set[str] = set()  # parameters whose old gradient was still there when a new one came
        self.empty = 0  # updates without any gradient
        self.evaluating = 0  # calls of the model in evaluation mode with gradients on
        self.clipped: list[tuple[int, int]] = []  # (parameters clipped, parameters with a gradient)
        self.divided: list[float] = []  # what gradients were divided by between their clipping and the update
        self.said: list[str] = []
        self._fresh: set[int] = set()  # parameters that had a gradient since the last update
        # Parameters that were clipped, the norm of their gradients then, and how much backward was done.
        self._clipped: tuple[list[Any], float, int] | None = None
        self._doubtful: dict[int, str] = {}  # of them, those whose old gradient was there; until it is cleared

    def hooks(self, stack: ExitStack) -> None:
        import torch

        subject = self.subject
        for optimizer in subject.optimizers:
            stack.callback(optimizer.register_step_pre_hook(self._before_step).remove)
        for name, parameter in subject.trained.items():
            stack.callback(parameter.register_hook(self._arrives(name, parameter)).remove)
        stack.callback(subject.model.register_forward_pre_hook(self._forward).remove)
        for scheduler in subject.schedulers:
            while hasattr(scheduler, "scheduler"):  # accelerate's, whose step may do nothing
                scheduler = scheduler.scheduler
            self._wrap(stack, scheduler, "step", "scheduler")
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            original = getattr(torch.nn.utils, name)
            setattr(torch.nn.utils, name, self._clips(original))
            stack.callback(setattr, torch.nn.utils, name, original)

    def _wrap(self, stack: ExitStack, owner: Any, name: str, said: str) -> None:
        had = name in vars(owner)
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            self.order.append(said)
            return original(*arguments, **keywords)

        setattr(owner, name, wrapped)
        stack.callback(setattr, owner, name, original) if had else stack.callback(delattr, owner, name)

    def _forward(self, module: Any, _: Any) -> None:
        import torch

        self.evaluating += torch.is_grad_enabled() and not module.training

    def _arrives(self, name: str, parameter: Any) -> Any:
        def hook(_: Any) -> None:
            self.backward += 1
            if parameter.grad is None or not bool(dense(parameter.grad).any()):
                self._doubtful.pop(id(parameter), None)
            elif id(parameter) not in self._fresh and self.updates:
                self._doubtful[id(parameter)] = name
            self._fresh.add(id(parameter))

        return hook

    def _before_step(self, optimizer: Any, arguments: Any, keywords: Any) -> None:
        held = [p for group in optimizer.param_groups for p in group["params"]]
        closure = keywords.get("closure") or any(map(callable, arguments[1:]))  # it makes the gradients itself
        self.empty += not closure and not any(p.grad is not None and bool(dense(p.grad).any()) for p in held)
        self.stale |= {self._doubtful.pop(id(p)) for p in held if id(p) in self._doubtful}
        if self._clipped is not None and self._clipped[2] == self.backward:
            then, now = self._clipped[1], _norm(self._clipped[0])
            self.divided += [then / now] if 0 < now < then / 2 else []
        self._clipped = None
        self.updates += 1
        self.order.append("optimizer")
        self._fresh -= {id(p) for p in held}

    def _clips(self, original: Any) -> Any:
        def clip(parameters: Any, *arguments: Any, **keywords: Any) -> Any:
            import torch

            given = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            ids = {id(p) for p in given}
            with_gradient = [p for p in self.subject.trained.values() if p.grad is not None]
            self.clipped.append((sum(id(p) in ids for p in with_gradient), len(with_gradient)))
            self.order.append("clip")
            result = original(given, *arguments, **keywords)
            parts = [p for p in with_gradient if id(p) in ids]
            self._clipped = parts, _norm(parts), self.backward
            return result

        return clip


def _norm(parameters: list[Any]) -> float:
    return math.sqrt(sum(float(dense(p.grad).abs().double().square().sum()) for p in parameters if p.grad is not None))


def loop(subject: Subject) -> Iterator[Check]:
    """zero_grad, order, mode and clipping, seen from outside while step() is called a few times."""
    if subject.step is None:
        raise NotApplicable("pass step= (one step of the program's own loop) to have zero_grad and the order looked at")
    subject.first()
    diary = _Diary(subject)
    with subject.kept(), ExitStack() as stack, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seed(SEED)
        diary.hooks(stack)
        calls = 0
        while diary.updates < STEPS * len(subject.optimizers) and calls < MOST:
            subject.step()
            diary.order.append("the end of a step")
            calls += 1
    diary.said = [str(each.message) for each in caught]
    if not diary.updates:
        advice = "optimizer.step() is never called on this optimizer: is another one stepped, or does the scaler skip?"
        yield Check("loop updates", f"none in {calls} steps", "an update", FAIL, advice)
        return
    yield Check("loop updates", f"{diary.updates} updates in {calls} steps", "an update", OK)
    yield _zero_grad(diary)
    if diary.empty:
        text, advice = (
            f"{diary.empty} of {diary.updates} updates",
            "zero_grad comes between backward and step, or backward is missing",
        )
        yield Check("gradients at the update", f"{text} have no gradient", "some", FAIL, advice)
    yield from _order(subject, diary)
    if diary.evaluating and _has_modes(subject):
        advice = "model.train() is missing, after an evaluation too: dropout is off and batch norms stand still"
        yield Check("mode of the loop", "the model trains in evaluation mode", "training mode", FAIL, advice)
    few = [(some, every) for some, every in diary.clipped if some < every]
    if few:
        advice = "the norm is that of a part, and only that part is scaled: hand all parameters to the clipping"
        yield Check("clipping", f"{few[0][0]} of {few[0][1]} gradients are clipped", "all", WARN, advice)
    if diary.divided:
        advice = "clip after scaler.unscale_(optimizer): before it the bound is that of gradients times the scale"
        text = f"gradients are divided by {diary.divided[0]:.4g} between their clipping and the update"
        yield Check("clipping", text, "the update has them as clipped", FAIL, advice)
    pairs = list(zip(diary.order, diary.order[1:], strict=False))
    if diary.clipped and ("optimizer", "clip") in pairs and ("clip", "optimizer") not in pairs:
        yield Check(
            "clipping", "gradients are clipped after the update", "before it", FAIL, "clip before optimizer.step()"
        )


def _zero_grad(diary: _Diary) -> Check:
    if diary.stale:
        advice = "optimizer.zero_grad() is missing: every update uses the sum of all gradients so far"
        text = f"the gradient of the update before is still there in {listed(sorted(diary.stale))}"
        return Check("zero_grad", text, "cleared between updates", FAIL, advice)
    return Check("zero_grad", "cleared between updates", "cleared between updates", OK)


def _order(subject: Subject, diary: _Diary) -> Iterator[Check]:
    warned = any("lr_scheduler.step()` before `optimizer.step()" in text for text in diary.said)
    first = [what for what in diary.order if what in ("optimizer", "scheduler")][:1]
    if first == ["scheduler"] or warned:
        advice = "call optimizer.step() first: the first rate of the schedule is skipped"
        yield Check("scheduler", "it steps before the optimizer", "after it", FAIL, advice)
    elif "scheduler" in diary.order:
        yield Check("scheduler", "it steps after the optimizer", "after it", OK)


def _has_modes(subject: Subject) -> bool:
    """Whether training and evaluation mode differ for this model."""
    norms = any(getattr(module, "running_mean", None) is not None for module in subject.modules.values())
    return norms or bool(subject.first().seen.drops)
