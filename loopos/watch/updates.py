"""Updates that make a weight or a moment infinite although every gradient is finite: a rate or a decay that is far too
large, an eps of 0, a dtype with little room.

A look at all weights after every step would cost as much as the test of the gradients. It is not needed where no update
can do it: the rate, the gradient norm and the settings bound what a step adds. Where they do not, weights and moments
are copied before the step, looked at after it, and put back when one is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from loopos.births.advice import advice
from loopos.births.update_causes import update
from loopos.errors import Birth

from .finite import is_finite

_FAR = {torch.float16: 1e2}  # rate times gradient norm, or the rate itself, up to which no weight is in danger
_USUAL = 1e12
_SQUARE = 1e18  # a gradient norm whose square a moment of float32 can still hold
_LEAST = {torch.float16: 3e-8}  # an eps below it is 0 in the arithmetic of the weights
_RULES = {"Adam": "adam", "AdamW": "adamw", "SGD": "sgd"}


def is_risky(optimizer: torch.optim.Optimizer, norm: float) -> bool:
    """Whether a step with gradients of this norm may leave the range of its weights or moments."""
    if norm > _SQUARE:
        return True
    for group in optimizer.param_groups:
        rate, decay = float(group.get("lr", 0.0)), float(group.get("weight_decay", 0.0))
        dtypes = {each.dtype for each in group["params"]}
        far = min((_FAR.get(each, _USUAL) for each in dtypes), default=_USUAL)
        eps = group.get("eps", 1.0)
        eps = eps if isinstance(eps, float) else 1.0 if eps else 0.0  # Adafactor has two
        lost = any(eps < _LEAST.get(each, 0.0) for each in dtypes)
        if not rate * max(norm, 1.0) < far or not rate * decay < 1e3 or eps == 0 or lost:
            return True
    return False


class Saved:
    """An optimizer and its weights before a step that may go wrong."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self._optimizer = optimizer
        self._weights = [
            (each, each.detach().clone(), None if each.grad is None else each.grad)
            for group in optimizer.param_groups
            for each in group["params"]
        ]
        self._state = {
            each: {name: _copy(value) for name, value in optimizer.state[each].items()}
            if each in optimizer.state
            else None
            for each, _, _ in self._weights
        }

    def spoiled(self) -> tuple[torch.nn.Parameter, str] | None:
        """After the step: the first weight that is not finite and was, or whose moment is so, and the name of that;
        "weight" for the weight itself."""
        for each, before, _ in self._weights:
            if not is_finite(each) and is_finite(before):
                return each, "weight"
            held = self._state[each] or {}
            for name, moment in self._optimizer.state.get(each, {}).items():
                bad = isinstance(moment, torch.Tensor) and not is_finite(moment)
                if bad and not (isinstance(held.get(name), torch.Tensor) and not is_finite(held[name])):
                    return each, name
        return None

    def restore(self) -> None:
        with torch.no_grad():
            for each, before, _ in self._weights:
                each.copy_(before)
        for each, state in self._state.items():
            if state is None:
                self._optimizer.state.pop(each, None)
                continue
            living = self._optimizer.state[each]
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and isinstance(living.get(name), torch.Tensor):
                    living[name].copy_(value)
                else:
                    living[name] = value

    def birth(self, spoiled: torch.nn.Parameter, result: str, name: str, step: int) -> Birth:
        """While the step has been done and not been undone. result: as ``spoiled`` gives it; name: of the weight."""
        whole = spoiled.detach() if result == "weight" else self._optimizer.state[spoiled][result]
        bad = ~torch.isfinite(whole)
        flat = int(bad.reshape(-1).to(torch.uint8).argmax())
        index = tuple(int(at) for at in torch.unravel_index(torch.tensor(flat), spoiled.shape)) if spoiled.ndim else ()
        before, gradient = next((copy, gradient) for each, copy, gradient in self._weights if each is spoiled)
        group = next(g for g in self._optimizer.param_groups if any(each is spoiled for each in g["params"]))
        rule = _RULES.get(type(self._optimizer).__name__)
        value = _number(whole[index])
        operands = {
            "weight": _number(before[index]),
            "gradient": 0.0 if gradient is None else _number(gradient.detach()[index]),
            "learning_rate": float(group.get("lr", 0.0)),
            "weight_decay": float(group.get("weight_decay", 0.0)),
        }
        op = type(self._optimizer).__name__.lower()
        found = {"rule": op, "op": op, "result": result, "dtype": _dtype(spoiled)}
        if rule is None or spoiled.is_complex():
            words = f"the update of {op} at a rate of {operands['learning_rate']:g} made it so"
            kind = "learning rate too large" if operands["learning_rate"] > 1 else "unknown"
        else:
            told = update(found, {**operands, "clip_factor": 1.0, **self._moments(spoiled, index, group, rule)})
            kind, words = told.kind, told.words
        return Birth(
            step=step,
            phase="update",
            layer=None,
            op=op,
            tensor=name if result == "weight" else f"{name}.{result}",
            index=index,
            value=value,
            cause=f"{kind}: {words}",
            operands=operands,
            advice=advice(kind, op, name, watched=True),
        )

    def _moments(
        self, spoiled: torch.nn.Parameter, index: tuple[int, ...], group: Mapping[str, Any], rule: str
    ) -> dict[str, float]:
        state = self._optimizer.state.get(spoiled, {})
        if rule == "sgd":
            momentum = state.get("momentum_buffer")
            return {} if momentum is None else {"new momentum": _number(momentum[index])}
        steps, (beta1, beta2) = float(state["step"]), group["betas"]
        return {
            "new exp_avg": _number(state["exp_avg"][index]),
            "new exp_avg_sq": _number(state["exp_avg_sq"][index]),
            "1 - beta1^t": 1 - float(beta1) ** steps,
            "1 - beta2^t": 1 - float(beta2) ** steps,
            "eps": float(torch.tensor(group["eps"], dtype=spoiled.dtype)),  # 1e-8 is 0 in float16
        }


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _number(element: torch.Tensor) -> float:
    if element.is_complex():
        return float(element.real) if not math.isfinite(float(element.real)) else float(element.imag)
    return float(element)


def _dtype(weight: torch.Tensor) -> str:
    name = str(weight.dtype).removeprefix("torch.")
    return name if name in ("float64", "float16") else "float32"
