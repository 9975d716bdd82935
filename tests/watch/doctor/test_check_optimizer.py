"""Each fault that loopos/watch/doctor/check_optimizer.py is for is planted, and told by its own check."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched.judged_doctor import planted_for  # noqa: E402

import loopos  # noqa: E402

test_a_planted_fault_is_told = planted_for(
    "optimizer holds the model",
    "frozen",
    "weights tied",
    "rate",
    "weight decay",
    "size of an update",
    "gradients reach",
    "symmetry",
    "direction",
    "updates are not rounded away",
)


def regression(rule, rate):
    """The verdict on the size of an update, None where there is nothing to say."""
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    x = torch.randn(64, 8)
    batch = x, x @ torch.randn(8, 1)
    report = loopos.watch.doctor(
        model, rule(model.parameters(), rate), batch, lambda m, b: torch.nn.functional.mse_loss(m(b[0]), b[1])
    )
    return next((each.measured for each in report.problems if each.name == "size of an update"), None)


def test_a_large_first_update_that_lowers_the_loss_is_no_problem():
    assert regression(torch.optim.SGD, 0.1) is None
    assert regression(torch.optim.SGD, 2.0) is not None  # the loss rises
    for rule in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop):
        assert regression(rule, 0.02) is None
    assert regression(torch.optim.Adam, 0.15) is None
    assert regression(torch.optim.Adam, 3.0) is not None  # as large in the next steps too, and past the goal


def test_a_large_first_update_of_sgd_that_kills_its_units_is_told():
    model = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    x = torch.linspace(1, 2, 16)[:, None]
    report = loopos.watch.doctor(model, optimizer, x, lambda m, b: m(b).clamp_min(-1).square().mean())
    assert report["size of an update"].verdict == "warn"


class Waits:
    """As accelerate's: its step does nothing where the optimizer has not stepped."""

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def step(self):
        pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "factor", [lambda step: step / 5, lambda step: 0.0 if step < 900 else 1.0], ids=["warm-up", "late"]
)
def test_a_rate_of_0_that_rises_is_no_problem(factor):
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for given in (schedule, Waits(schedule)):
        report = loopos.watch.doctor(model, optimizer, torch.randn(4, 8), lambda m, b: m(b).sum(), scheduler=given)
        assert report["rate"].verdict == "ok"
    assert (optimizer.param_groups[0]["lr"], schedule.last_epoch) == (0, 0)


def test_what_has_converged_is_not_stuck():
    torch.manual_seed(0)
    model, x = torch.nn.Linear(1, 1), torch.randn(64, 1)
    batch = x, 2 * x + 1
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loss(model, batch):
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    for _ in range(300):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    assert model.weight.grad.any()
    assert loopos.watch.doctor(model, optimizer, batch, loss)["updates"].verdict == "ok"
    optimizer.param_groups[0]["lr"] = 1e-12
    with torch.no_grad():
        model.weight.fill_(1.5)
    assert loopos.watch.doctor(model, optimizer, batch, loss)["updates"].verdict == "fail"
