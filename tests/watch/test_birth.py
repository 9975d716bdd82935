"""What is said of a record."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.birth import birth_of, names_of  # noqa: E402
from loopos.watch.places import Places  # noqa: E402
from loopos.watch.tracer import Tracer  # noqa: E402


def told(program, model=None, inputs=()):
    model = model or torch.nn.Identity()
    with Places(model) as places, Tracer(places) as tracer:
        end = program()
    return birth_of(tracer.birth([end]), 7, names_of(model, inputs), 2)


def test_an_operation():
    birth = told(lambda: (torch.ones(2, 3) * 200).exp())
    assert (birth.step, birth.micro_batch, birth.layer, birth.op) == (7, 2, None, "aten.exp")
    assert birth.tensor == "exp"
    assert birth.operands == {"self": 200.0}
    assert "maximum" in birth.advice
    assert birth.module is None
    assert f"at {birth.source}" in birth.place


def test_rows_are_told_as_our_own_births_tell_them():
    birth = told(lambda: torch.tensor([[1e30, 2.0]]) @ torch.tensor([[1e30], [3.0]]))
    assert birth.operands["self"] == {
        "count": 2,
        "min": 2.0,
        "max": pytest.approx(1e30),
        "at": 0,
        "value": birth.operands["self"]["max"],
    }
    assert birth.cause_class == "product overflow"


def test_weights_buffers_and_inputs_by_name():
    model, x = torch.nn.BatchNorm1d(2).eval(), torch.ones(3, 2)
    for tensor, op, name in (
        (model.weight.data, "parameter", "weight"),
        (model.running_mean, "buffer", "running_mean"),
        (x, "input", "input['x']"),
    ):
        kept, tensor.view(-1)[1] = tensor.view(-1)[1].item(), math.nan
        birth = told(lambda: model(x), model, [("input['x']", x)])
        tensor.view(-1)[1] = kept
        assert (birth.op, birth.tensor) == (op, name)
        assert birth.index[-1] == 1
        assert "1 of" in birth.cause


def test_a_sparse_input_by_name():
    x = torch.tensor([[0.0, math.nan], [1.0, 0.0]]).to_sparse()
    birth = told(lambda: torch.sparse.mm(x, torch.ones(2, 1)), inputs=[("input['x']", x)])
    assert (birth.op, birth.tensor, birth.index) == ("input", "input['x']", (0,))  # into its values


def test_complex_numbers_say_which_part():
    birth = told(lambda: torch.tensor([1e30 + 0j]) * torch.tensor([1e30j]))
    assert "part of a complex number" in birth.place
    assert birth.cause_class == "product overflow"


def test_an_infinity_that_the_program_wrote():
    birth = told(lambda: torch.full((2,), math.inf) + 1)
    assert (birth.op, birth.cause_class) == ("aten.full", "input not finite")
    assert "writes inf here" in birth.cause
    birth = told(lambda: -torch.zeros(2).masked_fill(torch.tensor([True, False]), math.inf))
    assert (birth.op, birth.index, birth.cause_class) == ("aten.neg", (0,), "input not finite")
    assert "aten.masked_fill wrote at" in birth.cause


def test_the_log_probability_of_a_masked_class():
    logits = torch.zeros(1, 3).masked_fill(torch.tensor([False, True, False]), -math.inf)
    birth = told(lambda: -logits.log_softmax(1).gather(1, torch.tensor([[1]])).mean())
    assert (birth.op, birth.cause_class) == ("aten.neg", "log 0")
    assert "masked" in birth.cause


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (lambda w: w.sqrt().sum(), "eps under the root"),
        (lambda w: torch.where(w > 0, w.log(), 0.0).sum(), "torch.where"),
        (lambda w: torch.acos(w + 1).sum(), "clamp"),
        (lambda w: torch.linalg.svd(w.expand(2, 2))[0].sum(), "svdvals"),
    ],
)
def test_advice_by_the_operation_whose_slope_it_is(program, words):
    w = torch.zeros(2, requires_grad=True)
    with Places(torch.nn.Identity()) as places, Tracer(places) as tracer:
        program(w).backward()
    birth = birth_of(tracer.birth([w.grad]), 7, {}, None)
    assert words in birth.advice


def test_of_a_tensor_without_a_name_it_is_not_said_when_it_was_made():
    """Numbers of the model that go through numpy within the step are hidden from the tracer."""

    def program():
        hidden = torch.arange(3.0)
        with np.errstate(all="ignore"):
            return torch.from_numpy(np.log(hidden.numpy())) + hidden

    birth = told(program)
    assert (birth.op, birth.index, birth.cause_class) == ("input", (0,), "input not finite")
    assert "before the step begins" not in birth.cause
    assert "numpy" in birth.advice
    assert "nothing of the model" not in birth.advice
