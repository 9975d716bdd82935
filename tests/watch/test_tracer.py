"""Which operation bore a number that is not finite, and which only passed it on."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.places import Places  # noqa: E402
from loopos.watch.tracer import Tracer  # noqa: E402


def born(program):
    """The record of the birth behind what ``program`` gives."""
    with Places(torch.nn.Identity()) as places, Tracer(places) as tracer:
        end = program()
    return tracer.birth([end])


X = torch.tensor([1.0, 2.0, 200.0])


CASES = {
    "the first of a chain": (lambda: (X.exp() * 2 - 1).sum(), "exp"),
    "a NaN that is dropped is none": (lambda: ((X - 9).log()[:0].sum() + X.exp()).sum(), "exp"),
    "written into a part": (lambda: torch.zeros(4).index_copy_(0, torch.tensor([2]), X[2:].exp()).sum(), "exp"),
    "through a view": (lambda: X.exp().view(3, 1).T.reshape(-1)[1:].sum(), "exp"),
    "in place": (lambda: X.clone().exp_().sum(), "exp_"),
    "a legal mask": (lambda: X.masked_fill(X > 0, -math.inf).softmax(0), "_softmax"),
    "a mask of the least number": (lambda: (X - X + torch.finfo(torch.float32).min).half().softmax(0), "_softmax"),
    "an infinity of the program": (lambda: torch.full((3,), math.inf) - torch.full((3,), math.inf), "sub"),
    "memory that nobody wrote": (lambda: torch.empty(3).fill_(math.nan) + 1, "fill_"),
    "a part overwritten": (lambda: (X / 0).index_put_((torch.tensor([0]),), X[2:].exp()), "div"),
    "one element of a sum of tensors": (lambda: X.masked_fill(X < 2, -math.inf) + (X * 1e38), "mul"),
    "the least of a row of which nothing is left": (lambda: X.masked_fill(X > 0, math.inf).amin(), "amin"),
    "a mask with the other sign": (lambda: (-X.masked_fill(X > 0, math.inf)).softmax(0), "_softmax"),
    "a mask that counts with the other sign": (lambda: (-X.masked_fill(X > 9, -math.inf)).sum(), "neg"),
    "a mask that counts": (lambda: X.masked_fill(X > 9, -math.inf).sum(), "masked_fill"),
    "nothing to add up": (lambda: torch.logaddexp(*[X.masked_fill(X > 0, -math.inf)] * 2).sum(), "logaddexp"),
    "a difference with a mask, and one that overflows": (
        lambda: (X * 1e36 - X.masked_fill(X < 2, -math.inf) * 3e36).mul(1e38),
        "mul",
    ),
    "overwritten": (lambda: X.exp().fill_(1).add(X.mul(3e38)).sum(), "mul"),
}


@pytest.mark.parametrize("case", CASES)
def test_birth(case):
    program, op = CASES[case]
    assert born(program).name == f"aten.{op}"


def test_nothing_is_born_in_a_finite_pass():
    with Places(torch.nn.Identity()) as places, Tracer(places) as tracer:
        (X * 2).sum()
    assert tracer.birth([]) is None


def test_what_was_not_finite_before():
    given = torch.tensor([1.0, math.nan])
    record = born(lambda: (given * 2).sum())
    assert record.is_leaf
    assert record.tensor.data_ptr() == given.data_ptr()


def test_an_infinity_of_the_data_is_no_mask_unless_it_masks():
    given = torch.tensor([-math.inf, 1.0])
    assert born(lambda: (given * 0).sum()).is_leaf
    assert born(lambda: given[:1].softmax(0)).name == "aten._softmax"
    mask = torch.tensor([-math.inf, 0.0])
    assert born(lambda: (X[:2] + mask)[:1] - (X[:2] + mask)[:1].max()).name == "aten.max"


def test_operands_are_those_before_an_operation_in_place():
    record = born(lambda: X.clone().mul_(3e38))
    assert record.found.operands["self"] == 2
    assert record.found.index == (1,)


def test_memory_that_nobody_wrote_is_to_blame_last():
    """torch.empty may give anything: here its record is made by hand."""
    with Places(torch.nn.Identity()) as places, Tracer(places) as tracer:
        memory = torch.empty(3)
        memory.fill_(math.nan)
        tracer._written[memory.untyped_storage()._cdata].found.kind = "empty"
        alone = memory * 2
        both = memory.index_put((torch.tensor([0]),), X[2:].exp())
    assert tracer.birth([alone]).found.kind == "empty"
    assert tracer.birth([both]).name == "aten.exp"


def test_an_input_that_is_overwritten_in_place():
    given = torch.tensor([1.0, math.nan])
    record = born(lambda: given.mul_(2).sum())
    assert record.is_leaf
    assert record.tensor.tolist()[0] == 1


def test_the_values_of_a_sparse_tensor_are_followed():
    dense = torch.eye(3)
    dense[1, 1] = math.nan
    given = dense.to_sparse()
    record = born(lambda: torch.sparse.mm(given, torch.ones(3, 2)).sum())
    assert record.is_leaf
    assert record.tensor.isnan().tolist() == [False, True, False]
    assert born(lambda: torch.sparse.mm(given * 0, torch.ones(3, 2)).sum()).is_leaf
    assert (
        born(lambda: (torch.sparse.mm(torch.eye(3).to_sparse() * 3e38, torch.ones(3, 2)) * 2).sum()).name == "aten.mul"
    )


def test_an_operation_that_cannot_be_looked_into_is_told(monkeypatch):
    def fails(*_):
        raise RuntimeError("no storage")

    monkeypatch.setattr(Tracer, "_look", fails)
    with Places(torch.nn.Identity()) as places, Tracer(places) as tracer:
        X.exp()
    assert tracer.lost == {"aten.exp"}
