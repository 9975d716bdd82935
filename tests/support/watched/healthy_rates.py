"""Healthy programs whose weights move far: in their first step, at a high rate that they bear, or because they began
tiny or at zero. Each one's loss falls far below the one it began with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .healthy_examples import classify
from .program import Program

STEPS = 300


def _three_classes(rows: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """The class is the place of the largest of the first three numbers: it can be learned."""
    x = torch.randn(rows, 8)
    return x, x[:, :3].argmax(1)


def _scheduled(program: Program, schedule: Any) -> Program:
    def step() -> Any:
        loss = program.plain_step()
        schedule.step()
        return loss

    program.step = step
    return program


def _perceptron(width: int = 32) -> nn.Module:
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 3))


def _with(optimizer: Callable[..., torch.optim.Optimizer], model: nn.Module | None = None, **more: Any) -> Program:
    model = _perceptron() if model is None else model
    return Program(model, optimizer(model.parameters(), **more), _three_classes(), classify)


def one_cycle_of_sgd() -> Program:
    program = _with(torch.optim.SGD, lr=0.1, momentum=0.9)
    return _scheduled(program, torch.optim.lr_scheduler.OneCycleLR(program.optimizer, 0.3, total_steps=STEPS + 5))


def one_cycle_of_adam() -> Program:
    program = _with(torch.optim.Adam, lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(program.optimizer, 1e-2, total_steps=STEPS + 5, div_factor=1e4)
    return _scheduled(program, schedule)


def warm_restarts() -> Program:
    program = _with(torch.optim.AdamW, lr=1e-2)
    return _scheduled(program, torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(program.optimizer, 50))


def warm_up_of_sgd() -> Program:
    program = _with(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True)
    return _scheduled(program, torch.optim.lr_scheduler.LinearLR(program.optimizer, 0.01, total_iters=50))


def _with_closure(**more: Any) -> Program:
    program = _with(torch.optim.LBFGS, **more)

    def step() -> Any:
        def closure() -> torch.Tensor:
            program.optimizer.zero_grad()
            loss = program.loss_fn(program.model, program.batch)
            loss.backward()
            return loss

        return program.optimizer.step(closure)

    program.step = step
    return program


def lbfgs() -> Program:
    """Its first step is many iterations."""
    return _with_closure(lr=0.5)


def lbfgs_with_a_line_search() -> Program:
    return _with_closure(line_search_fn="strong_wolfe")


def rprop() -> Program:
    """Each weight's own step grows by a fifth as long as the sign of its gradient stays."""
    return _with(torch.optim.Rprop)


def adadelta() -> Program:
    return _with(torch.optim.Adadelta, lr=1.0)


def adagrad() -> Program:
    return _with(torch.optim.Adagrad, lr=0.1)


def adam_at_three_percent() -> Program:
    return _with(torch.optim.Adam, _perceptron(64), lr=3e-2)


def sgd_behind_a_norm() -> Program:
    """What comes before a norm has no scale of its own."""
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    return _with(torch.optim.SGD, model, lr=0.5)


def _regression(targets: float, optimizer: Callable[..., torch.optim.Optimizer], **more: Any) -> Program:
    """targets: how large they are."""
    model, x = nn.Linear(5, 1), torch.randn(64, 5)
    y = targets * (x @ torch.tensor([3.0, 1, 2, -4, 5])[:, None] + 4)
    return Program(
        model, optimizer(model.parameters(), **more), (x, y), lambda model, batch: F.mse_loss(model(batch[0]), batch[1])
    )


def unscaled_targets() -> Program:
    """Weights of 0.4 have to become 250,000."""
    return _regression(5e4, torch.optim.SGD, lr=0.05)


def unscaled_targets_of_a_thousand() -> Program:
    return _regression(1e3, torch.optim.SGD, lr=0.05)


def unscaled_targets_with_adam() -> Program:
    return _regression(50.0, torch.optim.Adam, lr=1.0)


def _from(scale: float, optimizer: Callable[..., torch.optim.Optimizer], width: int = 32, **more: Any) -> Program:
    """All weights that many times what they would be."""
    model = _perceptron(width)
    with torch.no_grad():
        for each in model.parameters():
            each *= scale
    return _with(optimizer, model, **more)


def from_tiny_weights() -> Program:
    return _from(1e-2, torch.optim.SGD, lr=0.3, momentum=0.9)


def from_tiny_weights_with_adam() -> Program:
    return _from(1e-3, torch.optim.Adam, lr=1e-2)


def from_zero() -> Program:
    """A logistic regression."""
    model = nn.Linear(8, 3)
    nn.init.zeros_(model.weight)
    return _with(torch.optim.SGD, model, lr=1.0)


def one_cycle_of_a_narrow_one() -> Program:
    program = _with(torch.optim.SGD, _perceptron(8), lr=0.1, momentum=0.9)
    return _scheduled(program, torch.optim.lr_scheduler.OneCycleLR(program.optimizer, 0.3, total_steps=STEPS + 5))


RATES = [
    one_cycle_of_sgd, one_cycle_of_adam, warm_restarts, warm_up_of_sgd, lbfgs, lbfgs_with_a_line_search, rprop,
    adadelta, adagrad, adam_at_three_percent, sgd_behind_a_norm, unscaled_targets, unscaled_targets_of_a_thousand,
    unscaled_targets_with_adam, from_tiny_weights, from_tiny_weights_with_adam, from_zero, one_cycle_of_a_narrow_one,
]  # fmt: skip
