"""Faults that ordinary people meet in layers: padding alone, dead channels, a text longer than its sound."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from .faults import Case
from .faults_natural import OVERFLOW, _case

Y = torch.arange(12) % 4


def speech() -> Case:
    labels = [[1, 2, 3, 4], [1, 1, 1, 2], [1, 2, 3, 1]]
    model, batch = (
        nn.Linear(8, 6),
        (torch.randn(5, 3, 8), torch.tensor(labels), torch.full((3,), 5), torch.full((3,), 4)),
    )
    loss = lambda m, b: F.ctc_loss(m(b[0]).log_softmax(2), *b[1:], reduction="mean")  # noqa: E731
    return _case(
        "a text that is longer than its sound", model, batch, loss, "_ctc_loss", (1,), ("log 0",), line="ctc_loss"
    )


def padded_text() -> Case:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(10, 6, padding_idx=0), nn.Linear(6, 4)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            real = (ids != 0).float()[..., None]
            return self.head((self.words(ids) * real).sum(1) / real.sum(1))

    ids = torch.randint(1, 10, (12, 5))
    ids[3] = 0
    return _case(
        "the mean of a text of padding",
        Pooled(),
        ids,
        lambda m, b: F.cross_entropy(m(b), Y),
        "div",
        (3, 0),
        ("0/0",),
        line="real.sum(1)",
    )


def padded_attention() -> Case:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor, pad: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, key_padding_mask=pad)[0]

    pad = torch.zeros(3, 5, dtype=torch.bool)
    pad[1] = True
    batch = torch.randn(3, 5, 8), pad
    return _case(
        "nn.MultiheadAttention over padding alone",
        Reads(),
        batch,
        lambda m, b: m(*b).square().mean(),
        "_softmax",
        (2, 0, 0),
        ("all-masked row",),
        line="key_padding_mask",
    )


def _dead_channel(norm: nn.Module) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), norm, nn.Flatten(), nn.Linear(216, 4))
    with torch.no_grad():
        model[0].weight[2:4] = 0.0
        model[0].bias[2:4] = -1.0
    return model


def dead_group() -> Case:
    model = _dead_channel(nn.GroupNorm(3, 6, eps=0.0))
    return _case(
        "a group norm of a dead group, eps 0",
        model,
        torch.randn(12, 1, 8, 8),
        lambda m, b: F.cross_entropy(m(b), Y),
        "native_group_norm",
        (0, 2, 0, 0),
        ("0/0",),
        line="F.cross_entropy(m(b), Y)",
    )


def frozen_statistics() -> Case:
    model = _dead_channel(nn.BatchNorm2d(6))
    model[2].eval()
    model[2].running_var[3] = -1.0
    return _case(
        "a running variance below 0",
        model,
        torch.randn(12, 1, 8, 8),
        lambda m, b: F.cross_entropy(m(b), Y),
        "native_batch_norm",
        (0, 3, 0, 0),
        ("negative root",),
        line="F.cross_entropy(m(b), Y)",
    )


def directions() -> Case:
    layer = nn.Linear(8, 4)
    with torch.no_grad():
        layer.weight[2] = 0.0
    model = nn.utils.parametrizations.weight_norm(layer)
    return _case(
        "weight norm of a row of zeros",
        model,
        torch.randn(12, 8),
        lambda m, b: m(b).square().mean(),
        "_weight_norm_interface",
        (2, 0),
        ("0/0",),
        line="m(b).square()",
    )


def recurrence() -> Case:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.on = nn.Linear(4, 8), nn.Linear(8, 8, bias=False)
            with torch.no_grad():
                self.on.weight.copy_(torch.eye(8) * 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.zeros(x.shape[0], 8)
            for t in range(x.shape[1]):
                h = self.into(x[:, t]) + self.on(h)
            return h

    return _case(
        "a linear recurrence that grows",
        Unrolled(),
        torch.randn(3, 200, 4),
        lambda m, b: m(b).mean(),
        "linear",
        None,
        OVERFLOW,
        line="self.on(h)",
    )


MODULES: list[Callable[[], Case]] = [
    speech, padded_text, padded_attention, dead_group, frozen_statistics, directions, recurrence,
]  # fmt: skip
