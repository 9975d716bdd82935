"""Under a GradScaler: its own overflows are its affair, a step that is bad without the scale is a hit."""

from __future__ import annotations

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")
F = torch.nn.functional


def parts():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
    return model, torch.optim.AdamW(model.parameters()), torch.randn(2, 4), torch.tensor([0, 1])


def half(model, x, targets):
    with torch.autocast("cpu", dtype=torch.float16):
        return F.cross_entropy(model(x).float(), targets)


def test_a_scale_that_is_too_large_is_no_alarm():
    model, optimizer, x, targets = parts()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    before = [each.clone() for each in model.parameters()]
    with loopos.watch(model, optimizer) as watch:
        for _ in range(20):
            watch.step(lambda: half(model, x, targets), scaler=scaler)
    assert watch.births == []
    assert 0 < watch.steps < 20
    assert scaler.get_scale() < 2.0**24
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_bad_loss_is_a_hit_at_once():
    model, optimizer, x, targets = parts()
    scaler = torch.amp.GradScaler("cpu")
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step(lambda: half(model, x, targets) * (x - x).sum().log(), scaler=scaler)
    assert error.value.birth.op == "aten.log"


def test_a_bad_gradient_is_a_hit_when_the_scaler_cannot_mend_it():
    model, optimizer, x, _ = parts()
    scaler = torch.amp.GradScaler("cpu")
    with loopos.watch(model, optimizer) as watch:
        watch.step(lambda: (model(x) * 0).abs().sqrt().sum(), scaler=scaler)
        with pytest.raises(loopos.NonFiniteError) as error:
            watch.step(lambda: (model(x) * 0).abs().sqrt().sum(), scaler=scaler)
    assert (error.value.birth.phase, error.value.birth.op) == ("backward", "aten.div")


def test_a_disabled_scaler():
    model, optimizer, x, targets = parts()
    with loopos.watch(model, optimizer) as watch:
        watch.step(lambda: F.cross_entropy(model(x), targets), scaler=torch.amp.GradScaler("cpu", enabled=False))
    assert watch.steps == 1
