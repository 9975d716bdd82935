"""Faults that come out of the arithmetic, each as people meet it; where it is born follows from how it is made."""

# ruff: noqa: E501 (one row a fault)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from . import models
from .faults import Case, Truth
from .healthy_layers import mlp, rows
from .layers import VAE, Covariance, Heads, _to_trace
from .program import Program

OVERFLOW = ("product overflow", "sum overflow")


class Through(nn.Module):
    """A linear layer, and a function of its output."""

    def __init__(self, function: Callable[..., torch.Tensor], width: int = 8, out: int = 8):
        super().__init__()
        self.first, self.function, self.last = nn.Linear(width, out), function, nn.Linear(out, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.function(self.first(x)))


def _case(name: str, model: nn.Module, batch: Any, loss: Any, *truth: Any, **more: Any) -> Case:
    torch_optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    return Case(f"natural: {name}", Program(model, torch_optimizer, batch, loss), Truth(*truth, **more))


def _classify(model: nn.Module, batch: Any) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def _through(name: str, function: Callable[..., Any], *truth: Any, x: torch.Tensor | None = None, **more: Any) -> Case:
    data, labels = rows()
    return _case(name, Through(function), (data if x is None else x, labels), _classify, *truth, **more)


def all_labels_ignored() -> Case:
    model, batch, loss = models.gpt2()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    return _case("every label of GPT-2 is -100", model, batch, loss, "nll_loss_forward", (), ("0/0",))


def label_is_masked() -> Case:
    model, batch = mlp(6), rows(6)
    batch[1][0] = 5

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        return F.cross_entropy(model(b[0]).masked_fill(torch.arange(6) == 5, float("-inf")), b[1])

    return _case("the label's own logit is masked", model, batch, loss, "nll_loss_forward", (), ("log 0",))


def log_of_softmax() -> Case:
    model, batch = mlp(2), rows(2)

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        logits = torch.stack([model(b[0]).mean(1), 0 * b[0][:, 0]], 1)
        logits = torch.where(torch.arange(12)[:, None] == 4, torch.tensor([500.0, 0.0]) + 0 * logits, logits)
        return F.nll_loss(torch.log(logits.softmax(1)), torch.ones(12).long())

    return _case("log of a softmax that is 0", model, batch, loss, "log", (4, 1), ("log 0",))


def masked_row() -> Case:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = Heads(), nn.Linear(12, 4)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.head(self.attention(x, mask[:, None, None, :]).mean(1))

    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[2] = False  # an empty text
    batch = torch.randn(4, 5, 12), mask, torch.randint(0, 4, (4,))
    loss = lambda m, b: F.cross_entropy(m(b[0], b[1]), b[2])  # noqa: E731
    return _case("attention over an empty text", Net(), batch, loss, "_softmax", (2, 0, 0, 0), ("all-masked row",))


def scores_overflow() -> Case:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Parameter(torch.ones(2, 3, 4))

        def forward(self, k: torch.Tensor) -> torch.Tensor:
            return (self.q @ k.transpose(1, 2)).softmax(-1)[..., 0].sum()

    k = torch.ones(2, 3, 4)
    k[1, 2] = 3e38
    return _case("scores of attention", Net(), k, lambda m, b: m(b), "bmm", (1, 0, 2), OVERFLOW)


def latent_explodes() -> Case:
    model = VAE()
    with torch.no_grad():
        model.logvar.bias[2] = 200.0

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        made, mean, logvar = model(x)
        return F.mse_loss(made, x) - 0.5 * (1 + logvar - mean.pow(2) - logvar.exp()).mean()

    return _case("variance of a VAE", model, torch.rand(6, 20), loss, "exp", (0, 2), ("exp overflow",))


def temperature() -> Case:
    model = models.clip()
    with torch.no_grad():
        model[0].logit_scale.fill_(100.0)
    return _case("CLIP's logit_scale of 100", *model, "exp", (), ("exp overflow",))


def whisper_sound() -> Case:
    model, batch, loss = models.whisper()
    batch["input_features"][2, 3, 8] = 3e38
    with torch.no_grad():
        model.model.encoder.conv1.weight[1:, 3] = 1e-30
        model.model.encoder.conv1.weight[0, 3] = torch.tensor([9.0, 9.0, 9.0])
    truth = "convolution", (2, 0, 7), OVERFLOW
    return _case("a sound of 3e38 in Whisper", model, batch, loss, *truth)


def float16_overflow() -> Case:
    model, (x, y) = mlp(), rows()
    with torch.no_grad():
        model[0].weight[3] = 0.0
        model[0].weight[3, 0] = 6e4
    x[:, 0] = 0.5
    x[7:, 0] = 2.0

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.float16):
            return F.cross_entropy(model(b[0]).float(), b[1])

    return _case("float16 under autocast", model, (x, y), loss, "linear", (7, 3), OVERFLOW)


def covariance_without_floor() -> Case:
    class Net(Covariance):
        def forward(self, a: torch.Tensor) -> torch.Tensor:
            samples = a.mH @ a / a.shape[1]
            trace = torch.diagonal(samples, dim1=-2, dim2=-1).real.sum(-1)
            scaled = samples * (self.sensors / trace).view(-1, 1, 1)
            return _to_trace(super().forward(a), 4) + scaled

    a = torch.randn(5, 8, 4, dtype=torch.complex64)
    a[3] = 0
    loss = lambda m, b: m(b).abs().pow(2).mean()  # noqa: E731
    truth = "reciprocal", (3,), ("x/0",)  # a number over a tensor is a reciprocal and a product
    return _case("a trace of 0 without a floor", Net(), a, loss, *truth)


def complex_overflow() -> Case:
    a = torch.randn(5, 8, 4, dtype=torch.complex64)
    a[2, :, 1] = 1e25

    def loss(model: nn.Module, a: Any) -> torch.Tensor:
        return model(a).abs().mean()

    class Net(Covariance):
        def forward(self, a: torch.Tensor) -> torch.Tensor:
            return super().forward(a / 1e25) + (a.mH @ a) * torch.sigmoid(self.beta)

    return _case("snapshots of 1e25", Net(), a, loss, "bmm", (2, 1, 1), OVERFLOW)


def negative_variance() -> Case:
    model, (x, y) = mlp(), rows()
    large = torch.randn(12, 64)
    while True:
        large[5] = 4096 * torch.rand(()) + 1e-3 * torch.randn(64)
        variance = large.pow(2).mean(1) - large.mean(1).pow(2)
        if float(variance[5]) < 0:
            break

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        spread = (large.pow(2).mean(1) - large.mean(1).pow(2)).sqrt()
        return (F.cross_entropy(model(b[0]), b[1], reduction="none") * spread).mean()

    return _case(
        "a variance as the mean of squares less the square", model, (x, y), loss, "sqrt", (5,), ("negative root",)
    )


def batch_of_one() -> Case:
    model, (x, y) = mlp(), rows()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        return model(b[0][:1]).std(0).mean()

    return _case("the deviation of a last batch of one row", model, (x, y), loss, "std", (0,), ("0/0",))


def nothing_counted() -> Case:
    model, (x, y) = mlp(), rows()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        mask = torch.zeros(12)
        return (F.cross_entropy(model(b[0]), b[1], reduction="none") * mask).sum() / mask.sum()

    return _case("a mean over a mask of zeros", model, (x, y), loss, "div", (), ("0/0",))


def entropy_of_zero() -> Case:
    model, (x, y) = mlp(), rows()
    target = F.one_hot(torch.zeros(12).long(), 4).float()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        return (target * (target.log() - model(b[0]).log_softmax(1))).sum(1).mean()

    return _case("0 log 0 by hand", model, (x, y), loss, "log", (0, 1), ("log 0",))


def constant_row() -> Case:
    model = Through(nn.LayerNorm(8, eps=0.0))
    model.norm = model.function
    data, labels = rows()
    with torch.no_grad():
        model.first.bias.zero_()
    data[6] = 0.0
    truth = "native_layer_norm", (6, 0), ("0/0",)
    return _case("a constant row and an eps of 0", model, (data, labels), _classify, *truth)


def zero_vector() -> Case:
    data, _ = rows()
    data[4] = 0.0

    model = Through(lambda h: h / h.norm(dim=1, keepdim=True))
    with torch.no_grad():
        model.first.bias.zero_()
    return _case("a zero vector is normalised", model, (data, rows()[1]), _classify, "div", (4, 0), ("0/0",))


def distance_to_itself() -> Case:
    model, (x, y) = mlp(), rows()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        z = model(b[0])
        return (z - z.detach() + torch.arange(12)[:, None]).pow(2).sum(1).sqrt().mean()

    return _case("the gradient of a distance of 0", model, (x, y), loss, "div", (0,), ("x/0",), "backward")


def scaled_too_far() -> Case:
    model, (x, y) = mlp(), rows()

    def hooked(model: nn.Module, b: Any) -> torch.Tensor:
        z = model(b[0]).mean() * 1e-37
        z.register_hook(lambda g: g * 3e38)
        return z * 10

    return _case("a loss scale that is too large", model, (x, y), hooked, "mul", (), ("product overflow",), "backward")


NATURAL: list[Callable[[], Case]] = [
    all_labels_ignored, label_is_masked, log_of_softmax, masked_row, scores_overflow, latent_explodes, temperature,
    whisper_sound, float16_overflow, covariance_without_floor, complex_overflow, negative_variance,
    batch_of_one, nothing_counted, entropy_of_zero, constant_row, zero_vector, distance_to_itself, scaled_too_far,
    lambda: _through("lengths of 0", lambda h: h / torch.tensor([1.0] * 5 + [0.0] + [1.0] * 2), "div", (0, 5), ("x/0",)),
    lambda: _through("gamma of a negative pixel", lambda h: (h * 0 - 0.5).pow(0.45), "pow", (0, 0), ("negative root", "outside the domain")),
    lambda: _through("lgamma of 0", lambda h: torch.lgamma(torch.relu(h) * 0) + h, "lgamma", (0, 0), ("outside the domain",)),
    lambda: _through("atanh of 1", lambda h: torch.atanh(h * 0 + 1), "atanh", (0, 0), ("outside the domain",)),
    lambda: _through("a sum over time", lambda h: (h * 0 + 1e38).cumsum(1) + h, "cumsum", (0, 3), ("sum overflow",)),
    lambda: _through("a product of chances", lambda h: h + (h * 0 + 1e30).prod(1, keepdim=True), "prod", (0, 0), ("product overflow",)),
    lambda: _through("log1p of -1", lambda h: h + torch.log1p(h * 0 - 1), "log1p", (0, 0), ("log 0",)),
    lambda: _through("sinh", lambda h: h + torch.sinh(h * 0 + 100), "sinh", (0, 0), ("exp overflow",)),
    lambda: _through("softplus by hand", lambda h: torch.log(1 + torch.exp(h * 0 + 90)), "exp", (0, 0), ("exp overflow",)),
    lambda: _through("sigmoid by hand", lambda h: h + torch.exp(h * 0 + 95) / (1 + torch.exp(h * 0 + 95)), "exp", (0, 0), ("exp overflow",)),
    lambda: _through("a mean of nothing", lambda h: h + h[:, :0].mean(), "mean", (), ("0/0",)),
    lambda: _through("logsumexp of nothing but masks", lambda h: h + h.masked_fill(h == h, float("-inf")).logsumexp(1, keepdim=True), "logsumexp", (0, 0), ("all-masked row",)),
]  # fmt: skip


def every_natural() -> list[Case]:
    cases = []
    for make in NATURAL:
        torch.manual_seed(0)
        cases.append(make())
    return cases
