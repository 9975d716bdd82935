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


def own_loop(scale, steps=40, micro=1, **given):
    """A loop of its own under a scaler. (the losses as the loop computed them, those that the watch kept, the watch)"""
    model, optimizer, x, targets = parts()
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    made, kept = [], []
    with loopos.watch(model, optimizer, **given) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            total = 0.0
            for _ in range(micro):
                loss = half(model, x, targets) / micro
                total += float(loss.detach())
                scaler.scale(loss).backward()
            done = watch.steps
            scaler.step(optimizer)
            scaler.update()
            if watch.steps > done:
                made.append(total)
                kept.append(watch.loss)
    return made, kept, watch


@pytest.mark.parametrize("micro", [1, 2])
def test_the_loss_of_an_own_loop_is_not_scaled(micro):
    """Neither by a scale that grows, nor by one that is too large at first, whose steps are left out."""
    made, kept, watch = own_loop(2.0**22, micro=micro)
    assert 5 < watch.steps < 40
    assert kept == pytest.approx(made, rel=1e-6)
    assert (watch.findings, watch.births) == ([], [])


def test_a_scaled_loss_of_an_own_loop_overflows_by_its_scale_alone():
    """The number that backward was given is not finite; the loss is."""
    model, optimizer, x, _ = parts()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    with loopos.watch(model, optimizer) as watch:
        for _ in range(16):
            optimizer.zero_grad()
            scaler.scale(model(x).mean() + 1e34).backward()
            scaler.step(optimizer)
            scaler.update()
    assert watch.births == []


def test_a_loop_that_leaves_a_step_out_begins_anew():
    """As one does that looks at its loss by itself: what was computed for that step is no part of the next."""
    model, optimizer, x, targets = parts()
    losses = []
    with loopos.watch(model, optimizer) as watch:
        for number in range(6):
            optimizer.zero_grad(set_to_none=number % 2 == 0)
            loss = F.cross_entropy(model(x), targets)
            loss.backward()
            if number % 2:
                optimizer.step()
                losses.append((float(loss.detach()), watch.loss))
    assert all(made == kept for made, kept in losses)
