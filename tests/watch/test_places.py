"""Where an operation was called, in both passes."""

from __future__ import annotations

import linecache

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from loopos.watch.places import Places  # noqa: E402


class Seen(TorchDispatchMode):
    def __init__(self, places):
        super().__init__()
        self.places, self.seen = places, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append((func._schema.name.partition("::")[2], self.places.now()))
        return func(*args, **(kwargs or {}))


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.ModuleList([torch.nn.Linear(2, 2)])

    def forward(self, x):
        y = self.inner[0](x)
        return y.exp()  # the line that is looked for


def seen():
    model = Block()
    with Places(model) as places, Seen(places) as mode:
        model(torch.ones(1, 2)).sum().backward()
    return model, mode.seen


def line_of(words):
    with open(__file__) as file:
        return next(at for at, line in enumerate(file, 1) if words in line)


def test_modules_and_lines():
    _, found = seen()
    named = dict(found[: [name for name, _ in found].index("sum")])
    assert named["addmm"].module == "inner.0"
    assert named["exp"].module == "Block"
    assert named["exp"].source == f"{__file__}:{line_of('the line that is' + ' looked for')}"


def test_the_backward_pass_names_the_forward_line():
    _, found = seen()
    (place,) = (place for name, place in found if name == "mul")
    assert (place.module, place.forward) == ("Block", "ExpBackward0")
    assert place.source == f"{__file__}:{line_of('the line that is' + ' looked for')}"
    assert any(place.module == "inner.0" and place.forward == "AddmmBackward0" for _, place in found)


def test_hooks_are_taken_off():
    model, _ = seen()
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())


def test_the_backward_of_the_last_operation_and_of_one_that_another_follows():
    """What has no node of its own is called after it: a draw of numbers, the backward pass itself."""
    from loopos.watch.tracer import Tracer

    w = torch.zeros(2, requires_grad=True)
    with Places(torch.nn.Identity()) as places, Tracer(places) as tracer:
        loss = w.sqrt()[0]
        torch.randn(2)
        tracer.phase = "backward"
        loss.backward()
    line = tracer.birth([w.grad]).place.source
    assert "w.sqrt()[0]" in linecache.getline(__file__, int(line.rpartition(":")[2]))
