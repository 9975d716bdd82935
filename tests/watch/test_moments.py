"""State of an optimizer that was broken before the step: told before it spoils a weight."""

from __future__ import annotations

import copy
import math
import warnings

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

RULES = {
    "exp_avg_sq": lambda p: torch.optim.AdamW(p, 1e-3),
    "exp_avg": lambda p: torch.optim.Adam(p, 1e-3),
    "momentum_buffer": lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9),
}


class Loaded:
    """A layer and an optimizer whose checkpoint has a NaN in ``kept``."""

    def __init__(self, kept):
        torch.manual_seed(0)
        self.model, self.x = torch.nn.Linear(4, 3), torch.randn(5, 4)
        self.optimizer = RULES[kept](self.model.parameters())
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.broken = copy.deepcopy(self.optimizer.state_dict())
        self.broken["state"][0][kept][1, 2] = math.nan
        self.before = self.model.weight.detach().clone()

    def loss(self):
        return self.model(self.x).square().mean()


@pytest.mark.parametrize("late", [False, True], ids=["before the watch", "while it watches"])
@pytest.mark.parametrize("kept", RULES)
def test_a_broken_checkpoint_is_told_before_a_weight_is_touched(kept, late):
    run = Loaded(kept)
    if not late:
        run.optimizer.load_state_dict(run.broken)
    with loopos.watch(run.model, run.optimizer) as watch:
        if late:
            watch.step(run.loss)
            run.before = run.model.weight.detach().clone()
            run.optimizer.load_state_dict(run.broken)
        with pytest.raises(loopos.NonFiniteError) as error:
            watch.step(run.loss)
    birth = error.value.birth
    assert (birth.phase, birth.tensor, birth.index) == ("update", f"weight.{kept}", (1, 2))
    assert birth.cause_class == "input not finite"
    assert "earlier checkpoint" in birth.advice
    assert torch.equal(run.model.weight, run.before)


def test_policies():
    run = Loaded("exp_avg")
    run.optimizer.load_state_dict(run.broken)
    with loopos.watch(run.model, run.optimizer, policy="skip") as watch:
        watch.step(run.loss)
        assert torch.equal(run.model.weight, run.before)
        assert run.model.weight.grad is not None
        watch.step(run.loss)
        with pytest.raises(loopos.NonFiniteError, match="in a row"):
            watch.step(run.loss)
    assert watch.skipped == 3
    run = Loaded("exp_avg")
    run.optimizer.load_state_dict(run.broken)
    with loopos.watch(run.model, run.optimizer, policy="warn") as watch, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            watch.step(run.loss)
    assert [str(each.message).count("exp_avg") > 0 for each in said] == [True]
    assert not torch.equal(run.model.weight, run.before)


def test_a_moment_that_breaks_in_the_middle_is_named_with_the_weight():
    run = Loaded("exp_avg")
    with loopos.watch(run.model, run.optimizer) as watch:
        watch.step(run.loss)
        run.optimizer.state[run.model.weight]["exp_avg"][0, 1] = math.nan
        watch.step(run.loss)
        with pytest.raises(loopos.NonFiniteError) as error:
            watch.step(run.loss)
    assert error.value.birth.cause_class == "weight not finite"
    assert "exp_avg of it is not finite either" in error.value.birth.cause
    assert "state of the optimizer" in error.value.birth.advice


def test_what_a_rule_counts_with_may_be_infinite():
    """A number of its own, of another shape than the weight."""
    run = Loaded("exp_avg")
    run.optimizer.state[run.model.weight]["least"] = torch.tensor(math.inf)
    with loopos.watch(run.model, run.optimizer) as watch:
        watch.step(run.loss)
    assert watch.births == []


class Least(torch.optim.SGD):
    """Keeps the least gradient so far, which begins at infinity."""

    def step(self, closure=None):
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["least"] = torch.minimum(self.state[weight]["least"], weight.grad.abs())
        return super().step(closure)


def test_a_rule_of_its_own_may_count_with_infinities():
    torch.manual_seed(0)
    model, x = torch.nn.Linear(4, 3), torch.randn(5, 4)
    optimizer = Least(model.parameters(), 1e-3)
    for weight in model.parameters():
        optimizer.state[weight]["least"] = torch.full_like(weight, math.inf)
    with loopos.watch(model, optimizer) as watch:
        watch.step(lambda: model(x).square().mean())
        assert not watch.births
        optimizer.state[model.weight]["least"][1, 2] = math.nan
        optimizer.load_state_dict(optimizer.state_dict())
        with pytest.raises(loopos.NonFiniteError):
            watch.step(lambda: model(x).square().mean())


class Normed(torch.optim.Optimizer):
    """Divides each gradient by its norm, without an eps."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure=None):
        for weight in self.param_groups[0]["params"]:
            weight -= self.param_groups[0]["lr"] * weight.grad / weight.grad.norm()


def test_a_rule_of_its_own_that_divides_by_a_gradient_of_0_is_named():
    torch.manual_seed(0)
    model, x = torch.nn.ModuleList([torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)]), torch.randn(5, 4)
    model.forward = lambda x: model[0](x) + 0 * model[1](x)
    optimizer = Normed(model.parameters())
    with loopos.watch(model, optimizer) as watch:
        watch.step(lambda: model(x).square().mean())
        with pytest.raises(loopos.NonFiniteError) as error:
            watch.step(lambda: model(x).square().mean())
    assert error.value.birth.tensor == "1.weight"
    assert "the optimizer is Normed, none of PyTorch's" in error.value.birth.cause
    assert "divides by" in error.value.birth.advice
    assert error.value.birth.cause_class == "weight not finite"
