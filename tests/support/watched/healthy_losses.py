"""Healthy losses as people write them: policies, losses below 0, margins, masks of infinities, boxes, transport."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .healthy_examples import classify
from .healthy_layers import mlp, rows
from .program import Program


def plain(model: nn.Module, batch: Any, loss: Callable[..., Any], rate: float = 1e-3, **more: Any) -> Program:
    return Program(model, torch.optim.AdamW(model.parameters(), rate, **more), batch, loss)


def regression_adam() -> Program:
    """A line, at a rate that is large beside its first weights."""
    model, x = nn.Linear(3, 1), torch.rand(64, 3) * 10
    batch = x, x @ torch.tensor([[2.0], [-1.0], [0.5]]) + 1
    return plain(model, batch, lambda m, b: F.mse_loss(m(b[0]), b[1]), 0.1)


def clipped_policy() -> Program:
    """PPO: advantages of both signs, a ratio, an entropy; the loss is below 0."""
    model = mlp(5)
    states, actions = torch.randn(12, 8), torch.randint(0, 4, (12,))
    with torch.no_grad():
        old = model(states)[:, :4].log_softmax(1).gather(1, actions[:, None]).squeeze(1)
    batch = states, actions, old, torch.randn(12), torch.randn(12)

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        out = model(b[0])
        policy = torch.distributions.Categorical(logits=out[:, :4])
        ratio = (policy.log_prob(b[1]) - b[2]).exp()
        gain = (b[3] - b[3].mean()) / (b[3].std() + 1e-8)
        surrogate = torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
        return -surrogate + 0.5 * F.mse_loss(out[:, 4], b[4]) - 0.5 * policy.entropy().mean()

    return plain(model, batch, loss)


def squashed_policy() -> Program:
    """An actor whose action is squashed: its log-probability is computed without 1 - tanh squared."""
    model = mlp(4)

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        mean, scale = model(x).chunk(2, 1)
        normal = torch.distributions.Normal(mean, scale.clamp(-5, 2).exp())
        u = normal.rsample()
        log = normal.log_prob(u) - 2 * (math.log(2) - u - F.softplus(-2 * u))
        return (0.2 * log.sum(1) - torch.tanh(u).sum(1)).mean()

    return plain(model, torch.randn(12, 8), loss)


def distilled() -> Program:
    model, teacher = mlp(), mlp()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        with torch.no_grad():
            soft = (teacher(b[0]) / 2).softmax(1)
        near = F.kl_div((model(b[0]) / 2).log_softmax(1), soft, reduction="batchmean") * 4
        return 0.5 * near + 0.5 * F.cross_entropy(model(b[0]), b[1])

    return plain(model, rows(), loss)


def mixed_up() -> Program:
    """Labels that are shares of two classes."""

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        one = F.one_hot(b[1], 4).float()
        return F.cross_entropy(model(0.7 * b[0] + 0.3 * b[0].roll(1, 0)), 0.7 * one + 0.3 * one.roll(1, 0))

    return plain(mlp(), rows(), loss)


def segmentation() -> Program:
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    labels = torch.randint(0, 4, (4, 8, 8))
    labels[:, 0] = 255

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        out = model(b[0])
        p, seen = out.softmax(1), b[1] != 255
        one = F.one_hot(b[1].clamp_max(3), 4).movedim(-1, 1) * seen[:, None]
        dice = 1 - (2 * (p * one).sum((0, 2, 3)) + 1) / ((p * seen[:, None]).sum((0, 2, 3)) + one.sum((0, 2, 3)) + 1)
        return F.cross_entropy(out, b[1], ignore_index=255) + dice.mean()

    return plain(model, (torch.randn(4, 1, 8, 8), labels), loss)


def boxes() -> Program:
    """A generalized overlap of boxes, with floors."""

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        centre, size = model(b[0]).sigmoid().chunk(2, 1)
        low, high = centre - size / 2, centre + size / 2
        wide = (torch.minimum(high, b[1][:, 2:]) - torch.maximum(low, b[1][:, :2])).clamp_min(0)
        hull = torch.maximum(high, b[1][:, 2:]) - torch.minimum(low, b[1][:, :2])
        both, area = wide.prod(1), size.prod(1) + (b[1][:, 2:] - b[1][:, :2]).prod(1)
        overlap = both / (area - both).clamp_min(1e-7)
        return (1 - overlap + (hull.prod(1) - area + both) / hull.prod(1).clamp_min(1e-7)).mean()

    low = torch.rand(12, 2) * 0.5
    return plain(mlp(), (torch.randn(12, 8), torch.cat([low, low + 0.3], 1)), loss)


def triplets() -> Program:
    """The hardest positive and negative of each row, by masks of infinities."""

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        z = F.normalize(model(b[0]), dim=1)
        apart = torch.cdist(z, z)
        same = b[1][:, None] == b[1][None]
        far = apart.masked_fill(~same, -math.inf).amax(1)
        near = apart.masked_fill(same, math.inf).amin(1)
        return F.relu(far - near + 0.2).mean()

    return plain(mlp(), (torch.randn(12, 8), torch.arange(12) % 4), loss)


def angular_margin() -> Program:
    """ArcFace: the arc cosine of a cosine that is clamped."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.classes = mlp(6), nn.Parameter(torch.randn(4, 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.normalize(self.net(x), dim=1) @ F.normalize(self.classes, dim=1).t()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        cosine = model(b[0]).clamp(-1 + 1e-6, 1 - 1e-6)
        angle = torch.acos(cosine) + 0.3 * F.one_hot(b[1], 4)
        return F.cross_entropy(8 * torch.cos(angle), b[1])

    return plain(Net(), rows(), loss)


def tasks_weighted() -> Program:
    """Two tasks, each with a learned uncertainty: the loss may fall below 0."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.log = mlp(5), nn.Parameter(torch.tensor([-1.0, -3.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        out = model(b[0])
        parts = torch.stack([F.cross_entropy(out[:, :4], b[1]), F.mse_loss(out[:, 4], b[0][:, 0])])
        return (0.01 * parts * (-model.log).exp() + model.log).sum()

    return plain(Net(), rows(), loss)


def likelihood_maximized() -> Program:
    program = plain(mlp(), rows(), lambda m, b: -F.cross_entropy(m(b[0]), b[1]), maximize=True)
    return program


def transport() -> Program:
    """Sinkhorn in logs, between rows of which each has two that it may not go to."""

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        cost = torch.cdist(model(b[0]), b[1])
        log = (-cost / 0.1).masked_fill(b[2], -math.inf)
        for _ in range(3):
            log = log - log.logsumexp(1, keepdim=True)
            log = log - log.logsumexp(0, keepdim=True)
        return (log.exp() * cost).sum()

    closed = (torch.arange(12)[:, None] + torch.arange(5)) % 5 < 2
    return plain(mlp(), (torch.randn(12, 8), torch.randn(5, 4), closed), loss)


def chosen() -> Program:
    """A Gumbel softmax that chooses an expert."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.experts = nn.Linear(8, 3), nn.ModuleList(mlp() for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            share = F.gumbel_softmax(self.gate(x), tau=0.5, hard=True)
            return sum(share[:, i : i + 1] * each(x) for i, each in enumerate(self.experts))

    return plain(Net(), rows(), classify)


def distances_masked() -> Program:
    """A softmax of distances whose mask is +inf, turned; whole rows of it are left out afterwards."""

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        z = model(b[0])
        apart = (z[:, None] - z[None]).square().sum(-1).masked_fill(torch.eye(12, dtype=torch.bool), math.inf)
        same = (b[1][:, None] == b[1][None]).float()
        return -((-apart).softmax(1) * same).sum(1).clamp_min(1e-6).log().mean()

    return plain(mlp(), (torch.randn(12, 8), torch.arange(12) % 3), loss)


def contrast() -> Program:
    """Momentum contrast: a second encoder that follows, a queue in a buffer, a learned temperature."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()
            self.follows = copy.deepcopy(self.net).requires_grad_(False)
            self.scale = nn.Parameter(torch.tensor(2.6))
            self.register_buffer("queue", F.normalize(torch.randn(16, 4), dim=1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = F.normalize(self.net(x), dim=1)
            with torch.no_grad():
                k = F.normalize(self.follows(x + 0.1), dim=1)
            near, others = (q * k).sum(1, keepdim=True), q @ self.queue.clone().t()
            return torch.cat([near, others], 1) * self.scale.exp().clamp_max(100)

    model = Net()
    return plain(model, torch.randn(12, 8), lambda m, b: F.cross_entropy(m(b), torch.zeros(12).long()))


LOSSES = (
    regression_adam, clipped_policy, squashed_policy, distilled, mixed_up, segmentation, boxes,
    triplets, angular_margin, tasks_weighted, likelihood_maximized, transport,
    chosen, distances_masked, contrast,
)  # fmt: skip
