"""Each fault that loopos/watch/doctor/check_losses.py is for is planted, and told by its own check."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched.healthy_layers import mlp, rows  # noqa: E402
from watched.judged_doctor import planted_for  # noqa: E402

import loopos  # noqa: E402

test_a_planted_fault_is_told = planted_for("arguments of the loss", "sign of the loss")
F = torch.nn.functional


def policy(z, y):
    return -(z.log_softmax(1).gather(1, y[:, None]).squeeze(1) * torch.linspace(-1, 1, 12)).mean()


def bernoulli(z, y):
    """Both halves of a divergence between two coins."""
    p = torch.linspace(0.1, 0.9, 48).view(12, 4)
    return F.kl_div(F.logsigmoid(z), p) + F.kl_div(F.logsigmoid(-z), 1 - p)


def best_two(z, y):
    """Of a teacher, whose two shares are made to sum to 1; the student's are not."""
    shares = torch.linspace(-1, 1, 48).view(12, 4).softmax(1).topk(2, 1)
    teacher = shares.values / shares.values.sum(1, keepdim=True)
    return F.kl_div(z.log_softmax(1).gather(1, shares.indices), teacher, reduction="batchmean")


def densities(z, y):
    """Of ten bins a unit: their logs may be above 0."""
    shares = torch.linspace(-1, 1, 48).view(12, 4).softmax(1)
    return F.kl_div(z.log_softmax(1) + 2.3, 10 * shares)


def kernels(z, y):
    """Squared distances of all pairs, of which a matrix product is a part, and their centre."""
    w = torch.linspace(-1, 1, 48).view(12, 4)
    apart = z.square().sum(1)[:, None] + w.square().sum(1) - 2 * z @ w.t()
    return (apart - apart.mean(1, keepdim=True)).square().mean() - (-apart).exp().mean()


def smoothed(z, y):
    """A kernel between two sets of positions weighs the outputs."""
    one, two = torch.linspace(-1, 1, 12), torch.linspace(0, 2, 12)
    return ((-(one[:, None] - two).square()).exp() * z[:, 0]).sum(1).sub(one).square().mean()


def generator(z, y):
    """The first loss of GANs, which makes the critic's error larger."""
    return -F.binary_cross_entropy_with_logits(z[:, :1] * 2, torch.zeros(12, 1))


def erased(z, y):
    """What the first two logits tell is learned, what the others tell is unlearned."""
    return F.cross_entropy(z[:, :2], y % 2) - 0.3 * F.cross_entropy(z[:, 2:], (y > 1).long())


HEALTHY = {
    "log-probabilities": lambda z, y: F.nll_loss(z.log_softmax(1), y),
    "log-probabilities of a masked class": lambda z, y: F.nll_loss(
        z.masked_fill(torch.arange(4) == 3, -float("inf")).log_softmax(1), y % 3
    ),
    "a divergence": lambda z, y: F.kl_div(z.log_softmax(1), z.detach().softmax(1)),
    "a divergence from logs": lambda z, y: F.kl_div(
        z.log_softmax(1), z.detach().roll(1, 0).log_softmax(1), log_target=True
    ),
    "a divergence along columns": lambda z, y: F.kl_div(z.log_softmax(0), z.detach().softmax(0)),
    "a divergence of coins": bernoulli,
    "a divergence of a part": best_two,
    "a divergence of densities": densities,
    "kernels": kernels,
    "smoothed": smoothed,
    "a generator": generator,
    "a penalty": lambda z, y: F.cross_entropy(z, y) + z.square().mean(),
    "a flood": lambda z, y: (F.cross_entropy(z, y) - 9).abs() + 9,
    "distances": lambda z, y: F.cross_entropy(-z.abs(), y),
    "distances by hand": lambda z, y: -(-z.abs()).log_softmax(1).gather(1, y[:, None]).mean(),
    "the distance of the own class": lambda z, y: z.abs().gather(1, y[:, None]).mean(),
    "unlearning": erased,
    "returns": lambda z, y: F.mse_loss(
        z.gather(1, y[:, None]), torch.linspace(0, 1, 12)[:, None] + z.detach().amax(1, True)
    ),
    "an actor": lambda z, y: (0.2 * z[:, 0] - z.detach().amax(1)).mean(),
    "pairs of two kinds": lambda z, y: F.softplus(z[6:, 0][:, None] - z[:6, 0]).mean(),
    "a policy": policy,
    "a margin": lambda z, y: (z[:, :, None] - z[:, None]).abs().mean(),
    "a ranking": lambda z, y: F.softplus(z[:, 0][:, None] - z[:, 0]).mean(),
}


@pytest.mark.parametrize("loss", HEALTHY)
def test_a_healthy_loss_is_no_problem(loss):
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    report = loopos.watch.doctor(model, optimizer, rows(), lambda m, b: HEALTHY[loss](m(b[0]), b[1]))
    names = ("arguments of the loss", "sign of the loss", "shapes in the loss")
    assert not [str(each) for each in report.problems if each.name in names]


def test_a_likelihood_that_is_maximized():
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, maximize=True)
    report = loopos.watch.doctor(model, optimizer, rows(), lambda m, b: -F.cross_entropy(m(b[0]), b[1]))
    assert not report.problems
