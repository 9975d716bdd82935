"""Whatever is done to a program within ``kept`` is undone, bit for bit and with the same tensors."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.doctor.state import fingerprint, kept, seed  # noqa: E402

nn = torch.nn


def program():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model.note, model.memory = 3, torch.ones(2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(2):
        model(torch.randn(3, 4)).sum().backward()
        optimizer.step()
    return model, optimizer


def everything(model, optimizer):
    optimizer.zero_grad()
    model(torch.randn(3, 4)).pow(2).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 9.0
    model.eval()
    model[0].weight.requires_grad_(False)
    model[0].bias = nn.Parameter(torch.zeros(4))
    model[1].running_mean = torch.zeros(4)
    model.note, model.new = 4, torch.ones(1)
    model.memory.zero_()
    random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    optimizer.extra = 1


def fails(model, optimizer):
    everything(model, optimizer)
    raise KeyError


def test_everything_is_put_back():
    model, optimizer = program()
    before = fingerprint(model, [optimizer])
    with kept(model, [optimizer]):
        everything(model, optimizer)
        assert fingerprint(model, [optimizer]) != before
    assert fingerprint(model, [optimizer]) == before
    assert model.note == 3
    assert model.memory.tolist() == [1, 1]
    assert not hasattr(model, "new")
    assert not hasattr(optimizer, "extra")


def test_it_is_put_back_after_an_exception_too():
    model, optimizer = program()
    before = fingerprint(model, [optimizer])
    with pytest.raises(KeyError), kept(model, [optimizer]):
        fails(model, optimizer)
    assert fingerprint(model, [optimizer]) == before


def test_a_scheduler_is_put_back():
    model, optimizer = program()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    before = scheduler.state_dict()
    with kept(model, [optimizer], [scheduler]):
        optimizer.step()
        scheduler.step()
    assert scheduler.state_dict() == before
    assert optimizer.param_groups[0]["lr"] == 1e-2


def test_schedulers_within_a_scheduler_are_put_back_and_still_move_this_rate():
    model, optimizer = program()
    rates = torch.optim.lr_scheduler
    parts = [rates.ConstantLR(optimizer, 0.5, total_iters=9), rates.StepLR(optimizer, 1)]
    scheduler = rates.SequentialLR(optimizer, parts, milestones=[1])
    before, rate = scheduler.state_dict(), optimizer.param_groups[0]["lr"]
    with kept(model, [optimizer], [scheduler]):
        for _ in range(3):
            optimizer.step()
            scheduler.step()
    assert scheduler.state_dict() == before
    assert optimizer.param_groups[0]["lr"] == rate
    assert [each is part for each, part in zip(scheduler._schedulers, parts, strict=True)] == [True, True]
    for _ in range(2):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3, rel=1e-12)


def test_a_nan_is_put_back_as_it_was():
    model, optimizer = program()
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    before = fingerprint(model, [optimizer])
    with kept(model, [optimizer]):
        everything(model, optimizer)
    assert fingerprint(model, [optimizer]) == before


def test_a_seed_makes_all_generators_begin_anew():
    seed(3)
    one = random.random(), np.random.rand(), float(torch.rand(1))  # noqa: NPY002
    seed(3)
    assert one == (random.random(), np.random.rand(), float(torch.rand(1)))  # noqa: NPY002
