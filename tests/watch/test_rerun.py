"""The step done again: the same bits, or a sentence on why not."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.calls import Buffers, Call  # noqa: E402
from loopos.watch.rerun import differentiable, loss_in, loss_in_backward, rerun  # noqa: E402
from loopos.watch.tracer import Tracer  # noqa: E402


def model_and_call(fn):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    call = Call(lambda: fn(model), ((), {}), Buffers(model))
    return model, call


def test_a_birth_of_the_backward_pass():
    model, call = model_and_call(lambda model: (model(torch.ones(1, 3)) * 0).abs().sqrt().sum())
    found = rerun(model, [call], list(model.parameters()), 3)
    assert (found.birth.phase, found.birth.op, found.birth.step) == ("backward", "aten.div", 3)
    assert found.notes == ()
    assert model.weight.grad is None


def test_a_loss_that_is_another_is_said():
    model, call = model_and_call(lambda model: model(torch.ones(1, 3)).exp().sum())
    call.loss = torch.tensor(math.inf)
    found = rerun(model, [call], list(model.parameters()), 1)
    assert found.birth is None
    assert "not give the same loss" in found.notes[0]
    assert "randomness" in found.notes[0]


def test_what_could_not_be_looked_into_is_said(monkeypatch):
    def fails(*_):
        raise RuntimeError("no storage")

    monkeypatch.setattr(Tracer, "_look", fails)
    model, call = model_and_call(lambda model: model(torch.ones(1, 3)).exp().sum())
    found = rerun(model, [call], list(model.parameters()), 1)
    assert found.birth is None
    assert "aten.exp" in found.notes[-1]


def test_an_input_changed_in_place_is_named():
    x = torch.ones(1, 3)
    model, call = model_and_call(lambda model: model(x).exp().sum())
    call.see((x,), {})
    x.mul_(2)
    call.loss = torch.tensor(math.inf)
    assert "Written in place since the call: input[0]" in rerun(model, [call], [], 1).notes[0]


def test_the_loss_of_a_backward_pass():
    seen = []
    x = torch.ones(2, requires_grad=True)
    y = x * 1
    y.register_hook(lambda _: seen.append(loss_in_backward()))
    loss = (y * 3).sum()
    loss.backward(retain_graph=True)
    torch.autograd.grad(loss, x)
    assert [None if each is None else float(each) for each in seen] == [6.0, None]
    assert loss_in_backward() is None


def test_the_loss_is_found_in_what_a_function_returns():
    loss = torch.ones((), requires_grad=True) * 2
    held = type("Output", (), {"loss": loss})()
    for given in (loss, held, {"loss": loss}, (loss, 3)):
        assert loss_in(given) is loss
    for given in (None, torch.ones(3, requires_grad=True), torch.ones(()), "loss", ()):
        assert loss_in(given) is None
    assert differentiable({"a": loss, "b": torch.ones(1)}) == [loss]
