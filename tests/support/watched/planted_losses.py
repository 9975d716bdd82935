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


def _returns(
    loss: Callable[..., torch.Tensor], column: bool, rewards: int, graph: bool = False
) -> Callable[[], Program]:
    """Q-learning whose values (N, 1) or (N,) and rewards (N,) or (N, 1) do not agree. graph: of the target is kept."""

    def make() -> Program:
        model, other = mlp(4), mlp(4)
        rewarded = torch.randn(12), (torch.rand(12) > 0.8).float()
        rewarded = rewarded if rewards == 1 else tuple(each[:, None] for each in rewarded)
        batch = torch.randn(12, 8), torch.randint(0, 4, (12, 1)), torch.randn(12, 8), *rewarded

        def bellman(model: nn.Module, b: Any) -> torch.Tensor:
            values = model(b[0]).gather(1, b[1])
            with torch.set_grad_enabled(graph):
                target = b[3] + 0.9 * other(b[2]).max(1).values * (1 - b[4])
            return loss(values if column else values.squeeze(1), target)

        return Program(model, adam(model), batch, bellman)

    return make


def _shares(loss: Callable[..., torch.Tensor]) -> Callable[[], Program]:
    """Of a student and the logits of its teacher."""

    def make() -> Program:
        net = mlp()
        batch = torch.randn(12, 8), torch.randn(12, 4)
        return Program(net, adam(net), batch, lambda m, b: loss(m(b[0]), b[1]))

    return make


def _penalty(loss: Callable[..., torch.Tensor], share: float) -> Callable[[], Program]:
    """A loss of the logits, and the squares of all weights."""

    def make() -> Program:
        net = mlp()
        batch = (*rows(), torch.randn(12, 4))

        def penalized(model: nn.Module, b: Any) -> torch.Tensor:
            return loss(model(b[0]), b) + share * sum(each.square().sum() for each in model.parameters())

        return Program(net, adam(net), batch, penalized)

    return make


def _agree(loss: Callable[..., torch.Tensor]) -> Callable[[], Program]:
    """Of vectors that do, or do not, belong together."""

    def make() -> Program:
        net = mlp()
        batch = torch.randn(12, 8), torch.randn(12, 4), torch.arange(12) % 2
        return Program(net, adam(net), batch, lambda m, b: loss(m(b[0]), b[1], b[2]))

    return make


def _squares(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return (one - two).square().mean()


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
        ("returns_of_a_row", _returns(F.smooth_l1_loss, True, 1), SHAPES, "smooth_l1_loss of shapes (12, 1) and (12,)"),
        ("returns_by_hand", _returns(_squares, True, 1, graph=True), SHAPES, "a difference of shapes (12, 1) and (12,)"),
        ("rewards_of_a_column", _returns(F.mse_loss, False, 2), SHAPES, "a product of shapes (12,) and (12, 1)"),
        ("rewards_of_a_column_by_hand", _returns(_squares, True, 2), SHAPES, "a product of shapes (12,) and (12, 1)"),
        ("divergence_of_logits", _shares(lambda z, t: F.kl_div(z, t.softmax(1), reduction="batchmean")), TAKES, "kl_div is given numbers whose exp sums to"),
        ("divergence_from_logs", _shares(lambda z, t: F.kl_div(z.log_softmax(1), t.log_softmax(1))), TAKES, "kl_div is given log-probabilities as its target"),
        ("divergence_from_logits", _shares(lambda z, t: F.kl_div(z.log_softmax(1), t)), TAKES, "kl_div is given a target with numbers down to"),
        ("log_target_of_probabilities", _shares(lambda z, t: F.kl_div(z.log_softmax(1), t.softmax(1), log_target=True)), TAKES, "with log_target=True"),
        ("similar_or_0", _agree(F.cosine_embedding_loss), TAKES, "cosine_embedding_loss is given a target of 0 and 1"),
        ("margin_of_0_and_1", _agree(lambda z, _, y: F.soft_margin_loss(z[:, 0], y)), TAKES, "soft_margin_loss is given a target of 0 and 1"),
        ("penalty_on_a_negative", _penalty(lambda z, b: -F.cross_entropy(z, b[1]), 0.01), SIGN, "cross_entropy has the factor -1"),
        ("large_penalty_on_a_negative", _penalty(lambda z, b: -0.5 * F.mse_loss(z, b[2]), 1.0), SIGN, "mse_loss has the factor -0.5"),
        ("penalty_and_a_minus_forgotten", _penalty(lambda z, b: z.log_softmax(1).gather(1, b[1][:, None]).mean(), 1.0), SIGN, "the negative of a cross-entropy with [1]"),
        ("penalty_on_negative_squares", _penalty(lambda z, b: -_squares(z, b[2]), 0.01), SIGN, "the negative of a squared error with [2]"),
        ("negative_likelihood", _numbers(lambda z, y: -F.binary_cross_entropy_with_logits(z, y), _yes), SIGN, "a binary cross-entropy"),
    )
]  # fmt: skip
