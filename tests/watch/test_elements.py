"""The element that is told, and the rows it is made of."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.elements import find  # noqa: E402
from loopos.watch.rows import row  # noqa: E402

aten = torch.ops.aten


def test_pointwise_with_broadcasting():
    a, b = torch.ones(3, 1), torch.tensor([1.0, 0.0])
    found = find(aten.div.Tensor, {"self": a, "other": b}, a / b, None, False)
    assert (found.index, found.value, found.operands, found.kind) == (
        (0, 1),
        math.inf,
        {"self": 1.0, "other": 0.0},
        "elements",
    )


def test_only_elements_with_finite_operands_are_born():
    a = torch.tensor([math.nan, 3e38, 1.0])
    given = {"self": a, "other": 2.0}
    found = find(aten.mul.Tensor, given, a * 2, None, True, only_born=True)
    assert (found.index, found.attributes) == ((1,), {"other": 2.0})
    assert find(aten.mul.Tensor, {"self": a[:1]}, a[:1] * 2, None, True, only_born=True) is None


def test_complex_numbers():
    z = torch.tensor([1 + 1j, complex(1, math.nan)])
    found = find(aten.sgn.default, {}, z, None, False)
    assert (found.index, found.part) == ((1,), "imaginary")
    assert row(z[:1]).dtype == "complex128"


def test_an_operation_that_is_not_taken_apart():
    x = torch.tensor([1.0, -7.0])
    found = find(aten._linalg_svd.default, {"A": x}, torch.tensor(math.nan), None, False)
    assert found.kind == "whole"
    assert found.operands["A"] == {"count": 2, "min": -7.0, "max": 1.0, "at": 1, "value": -7.0}
