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


HEALTHY = {
    "log-probabilities": lambda z, y: F.nll_loss(z.log_softmax(1), y),
    "log-probabilities of a masked class": lambda z, y: F.nll_loss(
        z.masked_fill(torch.arange(4) == 3, -float("inf")).log_softmax(1), y % 3
    ),
    "a divergence": lambda z, y: F.kl_div(z.log_softmax(1), z.detach().softmax(1)),
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
