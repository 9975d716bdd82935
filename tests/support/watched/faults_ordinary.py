"""Faults that ordinary people meet, each as a small program: a loss written by hand, a mask that leaves nothing, a slope
that is infinite, a matrix that is singular, a count of 0. The truth names a piece of the line too."""

# ruff: noqa: E501 (one row a fault)

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .faults import Case
from .faults_modules import MODULES
from .faults_natural import OVERFLOW, _case

B, F_ = "backward", "forward"


class Scores(nn.Module):
    """A linear layer from 8 numbers to some scores."""

    def __init__(self, out: int = 4, bias: bool = True):
        super().__init__()
        self.head = nn.Linear(8, out, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def x(zero: int | None = None, rows: int = 12) -> torch.Tensor:
    """zero: a row of it that is 0."""
    data = torch.randn(rows, 8)
    if zero is not None:
        data[zero] = 0.0
    return data


def keep(row: int, shape: tuple[int, int] = (12, 4)) -> torch.Tensor:
    """A mask that leaves nothing of one row."""
    mask = torch.ones(shape, dtype=torch.bool)
    mask[row] = False
    return mask


def of(
    name: str,
    loss: Callable[..., torch.Tensor],
    op: str,
    index: Any,
    cause: Any,
    line: str,
    phase: str = F_,
    *,
    out: int = 4,
    zero: int | None = None,
    bias: bool = True,
    model: nn.Module | None = None,
    data: Any = None,
    bias_at: tuple[int, float] | None = None,
) -> Case:
    """``loss(scores, x)`` of a linear layer."""
    model = Scores(out, bias and zero is None) if model is None else model
    if bias_at is not None:
        with torch.no_grad():
            model.head.bias[bias_at[0]] = bias_at[1]
    causes = (cause,) if isinstance(cause, str) else cause
    batch = x(zero) if data is None else data
    return _case(name, model, batch, lambda m, b: loss(m(b), b), op, index, causes, phase, line=line)


Y = torch.arange(12) % 4
HALF = torch.randn(12, 4, generator=torch.Generator().manual_seed(1)).softmax(1)


def bce_by_hand(z: torch.Tensor, _: Any) -> torch.Tensor:
    p, y = torch.sigmoid(z[:, 0]), (Y > 1).float()
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def kl_by_hand(z: torch.Tensor, _: Any) -> torch.Tensor:
    q = z.softmax(1)
    return (HALF * torch.log(HALF / q)).sum(1).mean()


def angle(z: torch.Tensor, _: Any) -> torch.Tensor:
    cosine = torch.where(torch.arange(12) == 3, 1.0, 0.5) + 0 * z[:, 0]
    return torch.acos(cosine).mean()


def pairs(z: torch.Tensor, _: Any) -> torch.Tensor:
    return torch.sqrt(((z[:, None] - z[None]) ** 2).sum(-1)).triu(1).mean()


def squared_pairs(z: torch.Tensor, _: Any) -> torch.Tensor:
    squares = torch.full((12, 12), 1.0)
    squares[2, 5] = 1.0 + 2.0**-20
    return torch.sqrt(1 + z.mean() * 0 - squares).mean()


def standardised(z: torch.Tensor, _: Any) -> torch.Tensor:
    return ((z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True)).square().mean()


def advantage(z: torch.Tensor, _: Any) -> torch.Tensor:
    reward = torch.tensor([1.5])
    gain = (reward - reward.mean()) / (reward.std() + 1e-8)
    return -(z[:1].log_softmax(1)[:, 2] * gain).mean()


def focal(z: torch.Tensor, _: Any) -> torch.Tensor:
    p = z.softmax(1)[:, 1]
    return -((1 - p) ** 0.5 * p.log()).mean()


def softmax_by_hand(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = torch.where(torch.arange(12)[:, None] == 4, 100.0, 0.0) + z
    return F.nll_loss((z.exp() / z.exp().sum(1, keepdim=True)).log(), Y)


def shifted_softmax(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = z.masked_fill(~keep(5), -math.inf)
    z = (z - z.amax(1, keepdim=True)).exp()
    return (z / z.sum(1, keepdim=True)).square().sum()


def hardest(z: torch.Tensor, _: Any) -> torch.Tensor:
    apart = (z[:, None] - z[None]).square().sum(-1)
    return apart.masked_fill(torch.ones(12, 12) > 0, math.inf).amin(1).mean()  # one class: there is no other


def nearest(z: torch.Tensor, _: Any) -> torch.Tensor:
    return z.masked_fill(~keep(7), math.inf).min(1).values.square().mean()


def untaken_log(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = torch.where(torch.arange(4) == 1, 0.0, 1.0) * z.square()
    return torch.where(z > 0, z.log(), 0.0).mean()


def untaken_root(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = torch.where(torch.arange(4) == 1, 0.0, 1.0) * z.square()
    return torch.where(z > 0, z.sqrt(), 0.0).mean()


def untaken_quotient(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = torch.where(torch.arange(4) == 1, 0.0, 1.0) * z
    return torch.where(z != 0, torch.sin(z) / z, 1.0).mean()


def untaken_exp(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = torch.where(torch.arange(4) == 1, 100.0, 0.0) + z
    return torch.where(z > 80, z, z.exp()).mean()


def half_outside_autocast(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = (z * 0 + 300).half()
    return (z**2).float().mean()


def half_total(z: torch.Tensor, _: Any) -> torch.Tensor:
    return (z * 0 + 8000).half().sum().float()


def half_floor(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = z.half()
    return (z / (z.norm(dim=1, keepdim=True) + 1e-8)).float().square().mean()


def cosine_by_hand(z: torch.Tensor, _: Any) -> torch.Tensor:
    return ((z * HALF).sum(1) / (z.norm(dim=1) * HALF.norm(dim=1))).mean()


def counts(z: torch.Tensor, _: Any) -> torch.Tensor:
    seen = torch.bincount(Y % 3, minlength=4)
    weight = len(Y) / (4 * seen)
    return (F.cross_entropy(z, Y, reduction="none") * weight[Y]).mean()


def group_means(z: torch.Tensor, _: Any) -> torch.Tensor:
    totals = torch.zeros(5, 4).index_add(0, Y, z)
    number = torch.zeros(5).index_add(0, Y, torch.ones(12))
    return (totals / number[:, None]).square().mean()


def degrees(z: torch.Tensor, _: Any) -> torch.Tensor:
    edges = torch.ones(12, 12)
    edges[2] = 0
    scale = edges.sum(1).pow(-0.5)
    return ((scale[:, None] * edges * scale[None]) @ z).square().mean()


def singular_vectors(z: torch.Tensor, _: Any) -> torch.Tensor:
    u, _, _ = torch.linalg.svd(torch.eye(4) + 0 * z[:4])
    return (u * HALF[:4]).sum()


def eigenvectors(z: torch.Tensor, _: Any) -> torch.Tensor:
    _, u = torch.linalg.eigh(torch.eye(4) + 0 * z[:4])
    return (u.abs() * HALF[:4]).sum()


def volume(z: torch.Tensor, _: Any) -> torch.Tensor:
    return -torch.logdet(z[:3].t() @ z[:3])  # 3 rows of 4 numbers span no volume


def back_substitution(z: torch.Tensor, _: Any) -> torch.Tensor:
    return torch.linalg.solve_triangular(z[:4].tril(-1), torch.ones(4, 1), upper=False).mean()


def squashed(z: torch.Tensor, _: Any) -> torch.Tensor:
    action = torch.tanh(z + torch.tensor([0.0, 0.0, 50.0, 0.0]))
    return torch.log(1 - action.pow(2)).sum(1).mean()


def learned_exponent(z: torch.Tensor, _: Any) -> torch.Tensor:
    return (-z.square() - 1).pow(2 + 0 * z).mean()


def smoothing(z: torch.Tensor, _: Any) -> torch.Tensor:
    z = z.masked_fill(torch.arange(4) == 3, -math.inf)
    return F.cross_entropy(z, Y.clamp_max(2), label_smoothing=0.1)


def gathered(z: torch.Tensor, _: Any) -> torch.Tensor:
    logs = z.masked_fill(torch.arange(4) == 3, -math.inf).log_softmax(1)
    return -logs.gather(1, Y[:, None]).mean()


def entropy(z: torch.Tensor, _: Any) -> torch.Tensor:
    logs = z.masked_fill(torch.arange(4) == 3, -math.inf).log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean()


def weights_of_classes(z: torch.Tensor, _: Any) -> torch.Tensor:
    return F.cross_entropy(z, torch.zeros(12).long(), weight=torch.tensor([0.0, 1.0, 1.0, 1.0]))


def dice(z: torch.Tensor, _: Any) -> torch.Tensor:
    p, target = torch.relu(z * 0), torch.zeros(12, 4)
    return 1 - 2 * (p * target).sum() / (p.sum() + target.sum())


def beta_density(z: torch.Tensor, _: Any) -> torch.Tensor:
    a = z.exp()
    return -torch.distributions.Beta(a, a, validate_args=False).log_prob(torch.zeros(12, 4)).mean()


def bessel(z: torch.Tensor, _: Any) -> torch.Tensor:
    return torch.special.i0(z * 0 + 100).log().mean()


ORDINARY: list[Callable[[], Case]] = [
    *MODULES,
    lambda: of("a binary cross-entropy by hand", bce_by_hand, "log", (0,), "log 0", "torch.log(1 - p)", out=1, bias_at=(0, 40.0)),
    lambda: of("a divergence by hand", kl_by_hand, "div", (0, 2), "x/0", "HALF / q", bias_at=(2, -200.0)),
    lambda: of("the angle of a vector with itself", angle, "rsqrt", (3,), "x/0", "torch.acos", B),
    lambda: of("distances of all pairs", pairs, "div", (0, 0), "0/0", "torch.sqrt", B),
    lambda: of("a squared distance that rounds below 0", squared_pairs, "sqrt", (2, 5), "negative root", "torch.sqrt"),
    lambda: of("a constant row, standardised", standardised, "div", (3, 0), "0/0", "z.std(1", zero=3),
    lambda: of("the advantage of one sample", advantage, "std", (), "0/0", "reward.std()"),
    lambda: of("a focal loss of a sure class", focal, "pow", (0,), "x/0", "(1 - p) ** 0.5", B, bias_at=(1, 200.0)),
    lambda: of("a softmax by hand", softmax_by_hand, "exp", (4, 0), "exp overflow", "z.exp()"),
    lambda: of("a masked softmax by hand", shifted_softmax, "amax", (5, 0), "all-masked row", "z.amax(1"),
    lambda: of("the hardest of no others", hardest, "amin", (0,), "all-masked row", "amin(1)"),
    lambda: of("the nearest of none", nearest, "min", (7,), "all-masked row", "min(1)"),
    lambda: of("the log that where does not take", untaken_log, "div", (0, 1), "0/0", "z.log()", B),
    lambda: of("the root that where does not take", untaken_root, "div", (0, 1), "0/0", "z.sqrt()", B),
    lambda: of("the quotient that where does not take", untaken_quotient, "div", (0, 1), "0/0", "torch.sin(z) / z", B),
    lambda: of("the exp that where does not take", untaken_exp, "exp", (0, 1), "exp overflow", "z.exp()"),
    lambda: of("float16 outside autocast", half_outside_autocast, "pow", (0, 0), OVERFLOW, "z**2"),
    lambda: of("a sum in float16", half_total, "sum", (), "sum overflow", "half().sum()"),
    lambda: of("a floor of 1e-8 in float16", half_floor, "div", (2, 0), "0/0", "1e-8", zero=2),
    lambda: of("a cosine by hand", cosine_by_hand, "div", (3,), "0/0", "z.norm(dim=1)", zero=3),
    lambda: of("weights by counts of which one is 0", counts, "reciprocal", (3,), "x/0", "4 * seen"),
    lambda: of("means of groups of which one is empty", group_means, "div", (4, 0), "0/0", "number[:, None]"),
    lambda: of("a degree of 0", degrees, "pow", (2,), "x/0", "pow(-0.5)"),
    lambda: of("singular vectors of equal values", singular_vectors, "div", (0, 1), ("x/0", "0/0"), "torch.linalg.svd", B),
    lambda: of("eigenvectors of equal values", eigenvectors, "div", (0, 1), ("x/0", "0/0"), "torch.linalg.eigh", B),
    lambda: of("the volume of a singular matrix", volume, "_linalg_slogdet", (), "log 0", "torch.logdet", model=nn.Sequential(nn.Flatten(), nn.Linear(8, 4, bias=False)), data=torch.zeros(12, 8)),
    lambda: of("a triangle with 0 on its diagonal", back_substitution, "linalg_solve_triangular", (0, 0), "x/0", "solve_triangular"),
    lambda: of("the log-probability of a squashed action", squashed, "log", (0, 2), "log 0", "torch.log"),
    lambda: of("a learned exponent of a negative base", learned_exponent, "log", (0, 0), "outside the domain", "pow(", B),
    lambda: of("label smoothing over a masked class", smoothing, "neg", (0,), "log 0", "label_smoothing"),
    lambda: of("the label's own log-probability, masked", gathered, "neg", (), "log 0", "gather"),
    lambda: of("an entropy with a masked class", entropy, "mul", (0, 3), "0*inf", "logs.exp() * logs"),
    lambda: of("weights of 0 for all labels", weights_of_classes, "nll_loss_forward", (), "0/0", "F.cross_entropy"),
    lambda: of("a dice loss of an empty picture", dice, "div", (), "0/0", "target.sum()"),
    lambda: of("a beta density at 0", beta_density, "xlogy", None, "log 0", "log_prob"),
    lambda: of("a Bessel function of 100", bessel, "i0", (0, 0), "exp overflow", "torch.special.i0"),
    lambda: of("the mean over a mask that holds nothing", lambda z, b: z[b[:, 0] > 99].square().mean(), "mean", (), "0/0", "b[:, 0] > 99"),
    lambda: of("a mean squared error of no row", lambda z, b: F.mse_loss(z[:0], HALF[:0]), "mse_loss", (), "0/0", "F.mse_loss"),
    lambda: of("a sum of many large numbers", lambda z, b: torch.zeros(3).index_add(0, torch.zeros(12).long(), z[:, 0] * 0 + 1e38).mean(), "index_add", (0,), "sum overflow", "index_add"),
]  # fmt: skip
