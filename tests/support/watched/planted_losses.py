"""Faults of a loss that no error shows, planted: what it is given, its sign, and shapes by hand."""

# ruff: noqa: E501 (one row a fault)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .healthy_layers import mlp, rows
from .planted import adam
from .program import Program


def _classes(loss: Callable[..., torch.Tensor], model: nn.Module | None = None) -> Callable[[], Program]:
    def make() -> Program:
        net = mlp() if model is None else model
        return Program(net, adam(net), rows(), lambda m, b: loss(m(b[0]), b[1]))

    return make


def _numbers(loss: Callable[..., torch.Tensor], target: Callable[[], torch.Tensor]) -> Callable[[], Program]:
    def make() -> Program:
        net = mlp(1)
        return Program(net, adam(net), (torch.randn(12, 8), target()), lambda m, b: loss(m(b[0]), b[1]))

    return make


def _named(name: str, make: Callable[[], Program]) -> Callable[[], Program]:
    make.__name__ = name
    return make


def _yes() -> torch.Tensor:
    return (torch.arange(12) % 2).float()[:, None]


def _by_hand(p: Any, y: Any) -> torch.Tensor:
    return -(y * F.logsigmoid(p) + (1 - y) * F.logsigmoid(-p)).mean()


SHAPES, TAKES, SIGN = "shapes in the loss", "arguments of the loss", "sign of the loss"
LOSSES: list[tuple[Callable[[], Program], str, str]] = [
    (_named(name, make), check, words)
    for name, make, check, words in (
        ("squares_by_hand", _numbers(lambda z, y: ((z - y) ** 2).mean(), lambda: torch.randn(12)), SHAPES, "(12, 1) and (12,)"),
        ("squares_of_a_column", _numbers(lambda z, y: (y - z.squeeze(1)).abs().mean(), lambda: torch.randn(12, 1)), SHAPES, "(12, 1) and (12,)"),
        ("likelihood_by_hand", _numbers(_by_hand, lambda: (torch.arange(12) % 2).float()), SHAPES, "a product"),
        ("probabilities_for_logs", _classes(lambda z, y: F.nll_loss(z.softmax(1), y)), TAKES, "nll_loss is given probabilities"),
        ("logits_for_logs", _classes(F.nll_loss), TAKES, "exp sums to"),
        ("softmax_in_the_loss", _classes(lambda z, y: F.cross_entropy(z.softmax(1), y)), TAKES, "cross_entropy is given probabilities"),
        ("softmax_over_rows", _classes(lambda z, y: F.cross_entropy(z.softmax(0), y)), TAKES, "cross_entropy is given probabilities"),
        ("sigmoid_twice", _numbers(lambda z, y: F.binary_cross_entropy_with_logits(z.sigmoid(), y), _yes), TAKES, "output of a sigmoid"),
        ("divergence_of_probabilities", _classes(lambda z, y: F.kl_div(z.softmax(1), F.one_hot(y, 4).float())), TAKES, "kl_div is given"),
        ("negative_cross_entropy", _classes(lambda z, y: -F.cross_entropy(z, y)), SIGN, "a cross-entropy with"),
        ("minus_forgotten", _classes(lambda z, y: z.log_softmax(1).gather(1, y[:, None]).mean()), SIGN, "leave the minus out"),
        ("negative_squares", _numbers(lambda z, y: -F.mse_loss(z, y), lambda: torch.randn(12, 1)), SIGN, "a squared error"),
        ("negative_likelihood", _numbers(lambda z, y: -F.binary_cross_entropy_with_logits(z, y), _yes), SIGN, "a binary cross-entropy"),
    )
]  # fmt: skip
