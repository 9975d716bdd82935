"""Each fault that loopos/watch/doctor/check_loop.py is for is planted, and told by its own check."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched.healthy_layers import mlp, rows  # noqa: E402
from watched.judged_doctor import planted_for  # noqa: E402

import loopos  # noqa: E402

test_a_planted_fault_is_told = planted_for(
    "gradients at the update", "loop updates", "scheduler", "mode of the loop", "clipping"
)


@pytest.mark.parametrize("unscaled", [False, True])
def test_gradients_are_clipped_under_the_scale(unscaled):
    torch.manual_seed(0)
    model, batch = mlp(), rows()
    optimizer, scaler = torch.optim.AdamW(model.parameters(), 1e-3), torch.amp.GradScaler("cpu", init_scale=1024.0)

    def loss(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    def step():
        optimizer.zero_grad()
        scaler.scale(loss(model, batch)).backward()
        if unscaled:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    problems = loopos.watch.doctor(model, optimizer, batch, loss, step=step).problems
    told = [str(each) for each in problems]
    assert len(told) == (not unscaled)
    assert all("clipping: gradients are divided by 1024 between" in each for each in told)
