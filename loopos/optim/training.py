"""The optimizer of a training run: which rule which tensor follows, and steps on the model's own gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from loopos.births.birth import layer_of

from .base import Group, Optimizer
from .rules import RULES, AdamW

FOR_THE_REST = AdamW  # embeddings, head, norms and biases


def settings_of(rule: str) -> tuple[str, ...]:
    """Those of train's settings "betas" and "eps" that a run with this rule uses."""
    return FOR_THE_REST._takes if RULES[rule]._matrices_only else RULES[rule]._takes


def for_run(
    rule: str,
    params: Any,
    lr: float = 0.0,
    *,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    matrix_rate: float = 1.0,
    moments: str = "float32",
) -> Optimizer:
    """The optimizer that loopos.train uses ("sgd" without momentum): decay, of the kind of the rule, acts on tensors of
    two or more dimensions.

    matrix_rate: with "muon", what the learning rate is multiplied by for the matrices that follow it."""
    if rule not in RULES:
        raise ValueError(f"train: optimizer must be one of {', '.join(map(repr, RULES))}, got {rule!r}")
    known = {"betas": {"beta1": float(betas[0]), "beta2": float(betas[1])}, "eps": {"eps": float(eps)}}

    def group(cls: type[Optimizer], rate: float = 1.0) -> Group:
        return Group(cls._rule, {key: value for name in cls._takes for key, value in known[name].items()}, rate)

    if not RULES[rule]._matrices_only:
        return Optimizer(params, lr, weight_decay, [group(RULES[rule])], decay_matrices_only=True, moments=moments)
    groups = [group(RULES[rule], matrix_rate), group(FOR_THE_REST)]
    return Optimizer(params, lr, weight_decay, groups, group_of=_group, decay_matrices_only=True, moments=moments)


def _group(name: str, array: np.ndarray) -> int:
    return 0 if array.ndim == 2 and layer_of(name) is not None else 1


class TrainingOptimizer:
    """The optimizer of the training loop: reads the model's own gradient buffer and multiplies it by the clip factor
    inside the update."""

    def __init__(self, optimizer: Optimizer, model: Any):
        self._optimizer = optimizer
        self._core = model._core
        self._grads = list(model._core.gradients().values())
        self._seen: tuple[int, int] | None = None  # views of the weights after the last step

    def step_core(self, lr: float, scale: float, norm: float = math.nan) -> dict | None:
        """None when every parameter was updated; else where the bad number is and of what it was made (phase, rule,
        tensor, index, value, result, operands), and nothing was changed. norm: that of the gradients, where known."""
        views = self._views()
        untouched = views is not None and views == self._seen
        refusal = self._optimizer._step(self._grads, lr, scale, norm, untouched)
        self._seen = views
        return refusal

    def _views(self) -> tuple[int, int] | None:
        """How often views of the weights were given out, and how many are left: None where anyone but the optimizer may
        write through one. A step that finds the same again finds the weights as the last one left them."""
        given, left = self._core.weight_views() if hasattr(self._core, "weight_views") else (0, -1)
        return (given, left) if left == len(self._grads) else None

    def owned(self, buffer: np.ndarray) -> list[tuple[int, int]] | None:
        """Of each process the piece of the gradients' buffer that its update reads; None: all of it."""
        return None

    def grad_norm(self) -> float:
        """Of all gradients together."""
        return self._core.grad_norm()

    def complete_gradients(self) -> None:
        """The gradients' buffer has all sums in every process, where an update needs a piece of them alone."""

    def gather(self) -> None:
        """Before something of its state is written: in every process of the run."""

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def state_in_numbers(self) -> dict[str, Any]:
        return self._optimizer.state_in_numbers()

    def living_state(self) -> dict[str, Any]:
        return self._optimizer.living_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._optimizer.load_state_dict(state)


def for_training(rule: str, model: Any, **settings: Any) -> TrainingOptimizer:
    """:func:`for_run` on a Model's parameters and its gradient buffer."""
    return TrainingOptimizer(for_run(rule, model, **settings), model)
