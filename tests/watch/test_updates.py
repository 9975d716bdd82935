"""An update that makes a weight infinite is refused, told, and undone."""

from __future__ import annotations

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.updates import Saved, is_risky  # noqa: E402

RULES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=3e38),
    "sgd, momentum": lambda p: torch.optim.SGD(p, lr=3e38, momentum=0.9),
    "a decay": lambda p: torch.optim.AdamW(p, lr=1.0, weight_decay=3e38),
    "eps of 0": lambda p: torch.optim.Adam(p, lr=0.1, eps=0.0),
}
CAUSES = {"a decay": "weight decay too large", "eps of 0": "0/0"}


def parts(rule):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(model.weight, 10.0)
    return model, RULES[rule](model.parameters()), torch.tensor([[1.0, 0.0, 2.0]])  # no gradient for the second input


@pytest.mark.parametrize("rule", RULES)
def test_it_is_told_and_undone(rule):
    model, optimizer, x = parts(rule)
    before = [each.clone() for each in model.parameters()]
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step(lambda: model(x).square().sum())
    birth = error.value.birth
    assert (birth.phase, birth.step, birth.op) == ("update", 1, type(optimizer).__name__.lower())
    assert birth.tensor in ("weight", "bias")
    assert birth.cause_class == CAUSES.get(rule, "learning rate too large"), birth.cause
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(optimizer.state[each] for each in model.parameters() if each in optimizer.state)


def test_skip_goes_on_with_the_weights_of_before():
    model, optimizer, x = parts("a decay")
    with loopos.watch(model, optimizer, policy="skip") as watch:
        watch.step(lambda: model(x).square().sum())
        assert (watch.skipped, watch.births[0].phase) == (1, "update")
        optimizer.param_groups[0] |= {"lr": 1e-3, "weight_decay": 0.0}
        before = model.weight.clone()
        watch.step(lambda: model(x).square().sum())
    assert not torch.equal(before, model.weight)
    assert torch.isfinite(model.weight).all()
    assert float(optimizer.state[model.weight]["step"]) == 1


def test_a_moment_that_is_infinite_is_told_and_undone():
    """Gradients of 1e36 are finite, their squares are not: AdamW would never move these weights again."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with loopos.watch(model, optimizer, policy="skip") as watch:
        watch.step(lambda: model(torch.ones(1, 3)).sum() * 1e36)
        watch.step(lambda: model(torch.ones(1, 3)).sum())
    (birth,) = watch.births
    assert (birth.phase, birth.tensor, birth.cause_class) == ("update", "weight.exp_avg_sq", "product overflow")
    assert torch.isfinite(optimizer.state[model.weight]["exp_avg_sq"]).all()
    assert float(optimizer.state[model.weight]["step"]) == 1


def test_an_eps_that_is_0_in_float16():
    model = torch.nn.Linear(3, 2).half()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step(lambda: (model(torch.ones(1, 3).half()) * 1e-4).sum())  # its square is 0 there
    assert (error.value.birth.phase, error.value.birth.cause_class) == ("update", "0/0")
    assert all(torch.isfinite(each).all() for each in model.parameters())


def test_a_usual_step_is_not_looked_at():
    model = torch.nn.Linear(3, 2)
    for make in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = make(model.parameters(), lr=1e-3)
        assert not is_risky(optimizer, 1e4)
    assert is_risky(torch.optim.SGD(model.parameters(), lr=1.0), 1e30)
    assert is_risky(torch.optim.Adam(torch.nn.Linear(1, 1).half().parameters()), 1.0)  # 1e-8 is 0 there
    assert not is_risky(torch.optim.Adam(torch.nn.Linear(1, 1).bfloat16().parameters()), 1.0)
    assert not is_risky(torch.optim.Adafactor(model.parameters()), 1.0)  # has two of them
    assert is_risky(torch.optim.SGD(torch.nn.Linear(1, 1).half().parameters(), lr=1.0), 1e3)


def test_a_copy_puts_moments_back():
    model, optimizer, x = parts("a decay")
    optimizer.param_groups[0]["weight_decay"] = 0.0
    model(x).sum().backward()
    optimizer.step()
    saved = Saved(optimizer)
    held = {name: value.clone() for name, value in optimizer.state[model.weight].items()}
    weight = model.weight.clone()
    optimizer.step()
    assert saved.spoiled() is None
    saved.restore()
    assert torch.equal(weight, model.weight)
    assert all(torch.equal(value, optimizer.state[model.weight][name]) for name, value in held.items())
