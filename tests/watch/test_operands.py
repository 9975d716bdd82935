"""The operands of one element, as the rules read them."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.elements import Found  # noqa: E402
from loopos.watch.operands import Operands  # noqa: E402


def test_numbers_rows_and_attributes():
    given = {"self": 3 + 4j, "other": np.array([1j, -2.0]), "x": 1.0}
    operands = Operands("mul", Found((0,), float("nan"), given, "elements", {"alpha": 2, "flag": True}, "complex64"))
    assert operands.given["self"] == 5
    assert operands.row()[0] == "other"
    assert operands.row()[1].tolist() == [1, 2]
    assert operands.shown == {"x": 1.0}
    assert (operands.scalar("beta", "alpha"), operands.scalar("flag")) == (2.0, None)


@pytest.mark.parametrize(
    ("dtype", "limit"), [("bfloat16", 3.39e38), ("float16", 65504), ("float8_e5m2", 57344), ("int64", 3.4e38)]
)
def test_limits(dtype, limit):
    operands = Operands("mul", Found((0,), float("inf"), {"x": 1.0}, "elements", {}, dtype))
    assert float(operands.n.limit) == pytest.approx(limit, rel=1e-2)
