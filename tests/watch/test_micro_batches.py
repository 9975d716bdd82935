"""A step of several micro-batches, whose gradients add up."""

from __future__ import annotations

import math

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")
F = torch.nn.functional


def parts():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3), torch.randn(2, 4), torch.tensor([0, 1])


def loss_of(model, x, targets):
    return F.cross_entropy(model(x), targets)


def test_a_micro_batch_without_a_gradient_is_part_of_the_step():
    model, optimizer, x, targets = parts()
    with loopos.watch(model, optimizer) as watch:
        loss = watch.step([lambda: 0 * model(x).sum() + 5, lambda: loss_of(model, x, targets)])
        assert watch.loss == pytest.approx(float(loss))
        with pytest.raises(loopos.NonFiniteError) as error:
            watch.step([lambda: 0 * model(x).sum(), lambda: model(x).sum() * math.inf])
    assert error.value.birth.micro_batch == 1


def test_micro_batches():
    model, optimizer, x, targets = parts()
    bad = x.clone()
    bad[0, 1] = math.nan
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step([lambda batch=batch: loss_of(model, batch, targets) for batch in (x, bad)])
    assert error.value.birth.micro_batch == 1
    assert error.value.birth.index == (0, 1)
