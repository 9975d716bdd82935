"""Healthy programs whose numbers look bad to a naive eye: masks of -inf, branches nobody takes, complex tensors,
counts of zero, and layers with state of their own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .healthy_examples import classify, next_token, pictures, tokens
from .layers import Covariance, Heads, Residual
from .program import Program


def _adam(model: nn.Module, rate: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), rate)


def mlp(out: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, out))


def rows(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(12, 8), torch.randint(0, classes, (12,))


def untaken_branch() -> Program:
    """torch.where evaluates both branches: the other one is log of a negative number."""

    class Log(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            safe = torch.where(x > 0, x, torch.ones_like(x))
            unused = torch.log(x.detach())  # NaN and -inf where x <= 0
            return self.net(torch.where(x > 0, torch.log(safe) + 0 * unused.nan_to_num(0, 0, 0), x))

    model = Log()
    return Program(model, _adam(model), rows(), classify)


def nan_is_dropped() -> Program:
    """A NaN that reaches no output: it is computed, compared and thrown away."""

    class Ratio(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ratio = (x.detach() * 0) / (x.detach() * 0)
            return self.net(torch.where(ratio > 0, ratio, x))

    model = Ratio()
    return Program(model, _adam(model), rows(), classify)


def masked_attention() -> Program:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.attention, self.head = nn.Embedding(20, 12), Heads(), nn.Linear(12, 20)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
            x = self.embed(ids)
            return self.head(x + self.attention(x, mask))

    model = Masked()
    return Program(model, _adam(model), tokens(), next_token)


def padded_rows() -> Program:
    """scaled_dot_product_attention with rows that see nothing: it gives 0 for them."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            seen = mask[:, None, :] & mask[:, :, None]
            y = F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), attn_mask=seen)
            return self.head((y * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))

    model = Padded()
    mask = torch.arange(6)[None] < torch.randint(2, 7, (8, 1))
    batch = torch.randn(8, 6, 8), mask, torch.randint(0, 4, (8,))
    return Program(model, _adam(model), batch, lambda m, b: F.cross_entropy(m(b[0], b[1]), b[2]))


def masked_classes() -> Program:
    """Classes that are not allowed have logits of -inf."""
    model, (x, y) = mlp(6), rows(3)
    allowed = torch.arange(6) < 4

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]).masked_fill(~allowed, float("-inf")), batch[1])

    model.append(nn.Identity())
    return Program(model, _adam(model), (x, y), loss)


def log_of_zero_weight() -> Program:
    """An entropy with probabilities of 0 by xlogy."""

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        target = F.one_hot(batch[1], 4).float()
        return (torch.xlogy(target, target) - target * model(batch[0]).log_softmax(1)).sum(1).mean()

    model = mlp()
    return Program(model, _adam(model), rows(), loss)


def max_pool_padding() -> Program:
    """Max pooling pads with -inf inside, and a running maximum begins at -inf."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(36, 5))

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        best = torch.full((len(batch[0]),), -math.inf)
        scores = model(batch[0])
        for column in scores.unbind(1):
            best = torch.maximum(best, column)
        return F.cross_entropy(scores, batch[1]) + 1e-3 * best.mean()

    return Program(model, _adam(model), pictures(), loss)


def ctc() -> Program:
    class Speech(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(6, 12, batch_first=True), nn.Linear(12, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x)[0]).log_softmax(-1)

    model = Speech()
    batch = {
        "x": torch.randn(4, 10, 6),
        "words": torch.randint(1, 8, (4, 3)),
        "length": torch.full((4,), 10),
        "word_length": torch.tensor([3, 2, 3, 1]),
    }

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        return F.ctc_loss(model(b["x"]).transpose(0, 1), b["words"], b["length"], b["word_length"], zero_infinity=True)

    return Program(model, _adam(model), batch, loss)


def covariance() -> Program:
    model = Covariance()
    batch = torch.randn(6, 8, 4, dtype=torch.complex64)
    truth = batch.mH @ batch / 8 + torch.eye(4)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return (model(batch[0]) - batch[1]).abs().pow(2).sum((-1, -2)).mean()

    return Program(model, _adam(model), (batch, truth), loss)


def fourier() -> Program:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(0.1 * torch.randn(5, 6, dtype=torch.complex64))
            self.lift, self.head = nn.Linear(1, 6), nn.Linear(6, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.lift(x)
            return self.head(F.gelu(y + torch.fft.irfft(torch.fft.rfft(y, dim=1) * self.weight, n=8, dim=1)))

    model = Spectral()
    batch = torch.randn(6, 8, 1), torch.randn(6, 8, 1)
    return Program(model, torch.optim.Adam(model.parameters(), 1e-3), batch, lambda m, b: F.mse_loss(m(b[0]), b[1]))


def logdet_loss() -> Program:
    """A negative log-likelihood by Cholesky, with a frozen scale."""
    model = nn.Linear(6, 10)

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        entries = model(x)
        lower = torch.zeros(len(x), 4, 4)
        at = torch.tril_indices(4, 4)
        lower = lower.index_put((torch.arange(len(x))[:, None], at[0], at[1]), entries)
        spread = lower @ lower.mT + 0.1 * torch.eye(4)
        factor = torch.linalg.cholesky(spread)
        return (
            -2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1).mean()
            + spread.diagonal(dim1=-2, dim2=-1).sum(-1).mean()
        )

    return Program(model, _adam(model), torch.randn(8, 6), loss)


def mixture_density() -> Program:
    model = mlp(9)

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        weight, mean, spread = model(b[0]).chunk(3, 1)
        parts = torch.distributions.Normal(mean, F.softplus(spread) + 1e-3).log_prob(b[1])
        return -torch.logsumexp(weight.log_softmax(1) + parts, 1).mean()

    return Program(model, _adam(model), (torch.randn(12, 8), torch.randn(12, 1)), loss)


def flow() -> Program:
    class Coupling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 4)) for _ in range(2))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            a, b, logdet = x[:, :2], x[:, 2:], 0
            for net in self.nets:
                scale, shift = net(a).chunk(2, 1)
                a, b, logdet = b * torch.tanh(scale).exp() + shift, a, logdet + torch.tanh(scale).sum(1)
            return torch.cat([a, b], 1), logdet

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        z, logdet = model(x)
        return (0.5 * z.pow(2).sum(1) - logdet).mean()

    model = Coupling()
    return Program(model, _adam(model), torch.randn(12, 4), loss)


def infonce() -> Program:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.scale = mlp(6), mlp(6), nn.Parameter(torch.tensor(2.0))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.scale.exp() * F.normalize(self.a(x), dim=1) @ F.normalize(self.b(y), dim=1).t()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        logits = model(*b)
        wanted = torch.arange(len(logits))
        return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.t(), wanted)) / 2

    model = Towers()
    return Program(model, _adam(model), (torch.randn(8, 8), torch.randn(8, 8)), loss)


def diffusion() -> Program:
    """Noise is drawn in the loss, in training and in evaluation."""

    class Denoise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time, self.into, self.out = (
                nn.Embedding(10, 16),
                nn.Conv2d(1, 16, 3, padding=1),
                nn.Conv2d(16, 1, 3, padding=1),
            )
            self.norm = nn.GroupNorm(4, 16)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self.out(F.silu(self.norm(self.into(x) + self.time(t)[..., None, None])))

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        t, noise = torch.randint(0, 10, (len(x),)), torch.randn_like(x)
        keep = torch.linspace(0.99, 0.05, 10)[t].view(-1, 1, 1, 1)
        return F.mse_loss(model(keep.sqrt() * x + (1 - keep).sqrt() * noise, t), noise)

    model = Denoise()
    return Program(model, _adam(model), torch.randn(6, 1, 8, 8), loss)


def bag() -> Program:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.EmbeddingBag(30, 8), nn.Linear(8, 3)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids))

    model = Bag()
    return Program(
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        (torch.randint(0, 30, (6, 5)), torch.randint(0, 3, (6,))),
        classify,
    )


def packed() -> Program:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.head = nn.Embedding(20, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            x = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
            return self.head(self.rnn(x)[1][0])

    model = Packed()
    batch = tokens(), torch.tensor([8, 5, 3, 8, 2, 6]), torch.randint(0, 3, (6,))
    return Program(model, _adam(model), batch, lambda m, b: F.cross_entropy(m(b[0], b[1]), b[2]))


def weight_norm() -> Program:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 4))
    return Program(model, _adam(model), rows(), classify)


def spectral_norm() -> Program:
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 4))
    return Program(model, _adam(model), rows(), classify)


def group_norm() -> Program:
    model = Residual(norm=lambda width: nn.GroupNorm(2, width))
    return Program(model, _adam(model), pictures(3), classify)


def several_labels() -> Program:
    model, x = mlp(6), torch.randn(12, 8)
    batch = x, (torch.rand(12, 6) < 0.3).float()
    return Program(model, _adam(model), batch, lambda m, b: F.binary_cross_entropy_with_logits(m(b[0]), b[1]))


def experts() -> Program:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.experts, self.head = (
                nn.Linear(8, 3),
                nn.ModuleList(mlp(8) for _ in range(3)),
                nn.Linear(8, 4),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.gate(x)
            kept = scores.topk(2, 1).indices
            mask = torch.full_like(scores, float("-inf")).scatter(1, kept, 0.0)
            weight = (scores + mask).softmax(1)
            return self.head(sum(weight[:, i : i + 1] * e(x) for i, e in enumerate(self.experts)))

    model = Experts()
    return Program(model, _adam(model), rows(), classify)


def physics() -> Program:
    """The derivative of the network by its input is a part of the loss."""
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_(True)
        y = model(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return F.mse_loss(slope, -y) + (model(torch.zeros(1, 1)) - 1).pow(2).mean()

    return Program(model, _adam(model), torch.rand(16, 1), loss)


def gradient_penalty() -> Program:
    model = mlp(1)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        real, made = batch
        share = torch.rand(len(real), 1)
        mixed = (share * real + (1 - share) * made).requires_grad_(True)
        (slope,) = torch.autograd.grad(model(mixed).sum(), mixed, create_graph=True)
        return model(made).mean() - model(real).mean() + 10 * (slope.norm(dim=1) - 1).pow(2).mean()

    return Program(model, _adam(model), (torch.randn(8, 8), torch.randn(8, 8)), loss)


def sets() -> Program:
    class Sets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(8, 2, 0.1, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((x + self.attention(x, x, x)[0]).amax(1))

    model = Sets()
    return Program(model, _adam(model), (torch.randn(6, 5, 8), torch.randint(0, 4, (6,))), classify)


EXAMPLES = (
    untaken_branch, nan_is_dropped, masked_attention, padded_rows, masked_classes, log_of_zero_weight,
    max_pool_padding, ctc, covariance, fourier, logdet_loss, mixture_density, flow, infonce, diffusion, bag, packed,
    weight_norm, spectral_norm, group_norm, several_labels, experts, physics, gradient_penalty, sets,
)  # fmt: skip
