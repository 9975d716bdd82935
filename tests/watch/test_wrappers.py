"""Models and optimizers as programs wrap them."""

from __future__ import annotations

import math

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch import wrappers  # noqa: E402


class Bad(torch.nn.Module):
    """exp of large numbers, perhaps under a checkpoint."""

    def __init__(self, reentrant=None, backward=False):
        super().__init__()
        self.linear, self.reentrant, self.backward = torch.nn.Linear(8, 8), reentrant, backward

    def inner(self, x):
        y = self.linear(x)
        return (y * 0).abs().sqrt() if self.backward else (y * 1e3).exp()

    def forward(self, x):
        if self.reentrant is None:
            return self.inner(x)
        return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=self.reentrant)


def parts(**options):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), Bad(**options), torch.nn.Linear(8, 3))
    return model, torch.optim.AdamW(model.parameters()), torch.randn(2, 4)


def caught(model, optimizer, x):
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step(lambda: model(x).sum())
    return error.value


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("backward", [True, False])
def test_checkpointed_activations(reentrant, backward):
    error = caught(*parts(reentrant=reentrant, backward=backward))
    assert error.birth.op == ("aten.div" if backward else "aten.exp")
    assert error.birth.module == "1"
    assert error.birth.source.startswith(__file__)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_model_is_repeated_without_the_compiler_and_it_is_said(in_place):
    model, optimizer, x = parts()
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")
    error = caught(model, optimizer, x)
    assert (error.birth.op, error.birth.module) == ("aten.exp", "1")
    assert "compiled" in str(error)


def test_several_optimizers_are_one_step():
    model, _, x = parts()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model[0], model[2])]
    before = [each.clone() for each in model.parameters()]
    with loopos.watch(model, optimizers, policy="skip") as watch:
        watch.step(lambda: model(x).sum())
    assert (watch.steps, watch.skipped, len(watch.births)) == (1, 1, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_closure_is_tested_after_it_has_run():
    model, _, x = parts()
    optimizer = torch.optim.LBFGS(model.parameters())
    before = [each.clone() for each in model.parameters()]

    def closure():
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        return loss

    with loopos.watch(model, optimizer), pytest.raises(loopos.NonFiniteError) as error:
        optimizer.step(closure)
    assert error.value.birth.op == "aten.exp"
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_tied_weights_and_complex_ones():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3, bias=False), "b": torch.nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight = torch.nn.Parameter(torch.eye(3, dtype=torch.complex64))
    model.forward = lambda x: model["b"](model["a"](x))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.ones(1, 3, dtype=torch.complex64)
    with loopos.watch(model, optimizer) as watch:
        watch.step(lambda: model(x).abs().sum())
        with pytest.raises(loopos.NonFiniteError) as error:
            watch.step(lambda: (model(x) * 1e30j).abs().square().sum())
    assert error.value.birth.cause_class == "product overflow"


def test_autocast_is_as_it_was():
    model, optimizer, x = parts()
    with loopos.watch(model, optimizer):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(x)
        out.float().sum().backward()
        with pytest.raises(loopos.NonFiniteError, match="bfloat16") as error:
            optimizer.step()
    assert error.value.birth.op == "aten.exp"


def test_the_optimizer_inside_another():
    inner = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    outer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    outer.optimizer = inner
    assert wrappers.innermost(outer) is inner
    assert wrappers.path_of("_orig_mod.h.0._orig_mod.mlp") == "h.0.mlp"


def test_sums_of_losses_that_are_healthy_stay_so():
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(2, 4)
    with loopos.watch(model, optimizer) as watch:
        loss = watch.step([lambda: model(x).sum() for _ in range(3)])
    assert math.isfinite(watch.loss)
    assert float(loss) == pytest.approx(watch.loss, rel=1e-6)
