"""What is kept of a call, and how it is done again."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.calls import Buffers, Call, Randomness, fresh, state_kept, tensors_in  # noqa: E402


def draws():
    return torch.rand(3).tolist(), np.random.rand(), random.random()  # noqa: NPY002


def test_random_states():
    state = Randomness()
    first = draws()
    assert draws() != first
    state.restore()
    assert draws() == first


def test_only_written_buffers_are_copied_once_they_are_known():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    model.register_buffer("mask", torch.ones(1000))
    buffers = Buffers(model)
    taken = buffers.take()
    assert all(copy.numel() == buffer.numel() for buffer, copy, _ in taken.values())
    model(torch.randn(4, 3))
    buffers.learn(taken)
    taken = buffers.take()
    assert taken["mask"][1].numel() == 0
    assert torch.equal(taken["0.running_mean"][1], model[0].running_mean)


def test_again_begins_where_the_call_began():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
    x = torch.randn(4, 3)
    call = Call(lambda: model(x), ((x,), {}), Buffers(model))
    first = call.run()
    call.done()
    mean = model[0].running_mean.clone()
    model(x)
    with call.again():
        again = call.run()
    assert torch.equal(first, again)
    assert torch.equal(model[0].running_mean, mean)


def test_autocast_is_part_of_a_call():
    layer = torch.nn.Linear(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        call = Call(lambda: layer(torch.ones(1, 2)), ((), {}), Buffers(layer))
    with call.again():
        assert call.run().dtype == torch.bfloat16
    assert call.run().dtype == torch.float32


def test_inputs_that_were_written_since():
    x = {"ids": torch.zeros(2), "rest": [torch.ones(1)]}
    call = Call(lambda: None, ((), x), Buffers(torch.nn.Linear(1, 1)))
    assert call.changed_inputs() == []
    x["rest"][0].add_(1)
    assert call.changed_inputs() == ["input['rest'][0]"]


def test_whatever_happens_meanwhile_is_undone():
    model = torch.nn.BatchNorm1d(3)
    parameters = list(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    gradient, mean, random_state = parameters[0].grad, model.running_mean.clone(), torch.get_rng_state()
    with state_kept(model, parameters):
        assert parameters[0].grad is None
        model(torch.randn(4, 3)).sum().backward()
    assert parameters[0].grad is gradient
    assert torch.equal(model.running_mean, mean)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_tensors_are_found_where_programs_put_them():
    batch = {"x": torch.ones(1), "more": (3, [torch.ones(2)])}
    assert [name for name, _ in tensors_in(batch)] == ["input['x']", "input['more'][1][0]"]


def test_fresh_arguments_have_no_graph():
    made = torch.ones(2, requires_grad=True) * 2
    plain = torch.ones(2)
    (first, second), named = fresh(((made, plain), {"more": [made]}))
    assert first.grad_fn is not made.grad_fn
    assert second is plain
    assert torch.equal(named["more"][0], made)
    first.sum().backward()
    made.sum().backward()  # the graph of the program was not used up
