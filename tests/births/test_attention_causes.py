"""The scores and probabilities that attention does not keep, made again for one element: they give what the operation
gave, whatever its queries may see."""

from __future__ import annotations

import re

import numpy as np
import pytest
from attention_reference import make

from loopos import _core
from loopos.births.arithmetic import Numbers, short
from loopos.births.attention_causes import attention
from loopos.births.causes import diagnose

SHAPE = (2, 4, 2, 70, 75, 3, 5)
KINDS = [
    {},
    {"causal": True},
    {"causal": True, "window": 4},
    {"causal": True, "prefix": 6},
    {"causal": True, "window": 3, "prefix": 20, "start": 5},
    {"causal": True, "window": 30, "mask": np.random.default_rng(7).random((4, 1, 75)) > 0.3},
    {"causal": True, "window": 9, "dropout": 0.25, "seed": 3},
    {"scale": -0.4, "dropout": 0.5, "seed": 4},
]


def traced(arrays, **options):
    q, k, v, dy = arrays
    return _core.ops._traced_attention(dy, q, k, v, **options)


def cause(found):
    return diagnose({**found, "op": "attention"}).cause


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind) or "full")
@pytest.mark.parametrize("tensor", ["y", "dq", "dk", "dv"])
def test_the_operands_give_what_the_operation_gave(tensor, kind):
    arrays = make(SHAPE)
    whole = traced(arrays, **kind)
    assert whole["birth"] is None
    rng = np.random.default_rng(1)
    for _ in range(3):
        index = tuple(int(rng.integers(size)) for size in whole[tensor].shape)
        birth = traced(arrays, **kind, plant=(tensor, index))["birth"]
        assert (birth["tensor"], birth["index"]) == (tensor, index)
        # Planted, so the operation did not make it: what its operands give is told instead.
        want = short(float(whole[tensor][index]))
        given = re.fullmatch(r"unknown: what it was made of gives (\S+), so .*", cause(birth))
        assert given, cause(birth)
        assert float(given[1]) == pytest.approx(float(want), rel=6e-3, abs=1e-15)


@pytest.mark.parametrize("tensor", ["y", "dq", "dk", "dv"])
def test_a_planted_number_where_nothing_is_seen(tensor):
    arrays = make((1, 2, 1, 50, 20, 3, 3))
    index = (0, 0, 40 if tensor in ("y", "dq") else 19, 1)
    unseen = {"causal": True, "window": 5, "mask": np.arange(20) < 19}
    birth = traced(arrays, **unseen, plant=(tensor, index))["birth"]
    assert "what it was made of gives 0, so" in cause(birth)


@pytest.mark.parametrize("tensor", ["y", "dq", "dk", "dv"])
def test_what_no_query_sees_is_no_operand(tensor):
    q, k, v, dy = make((1, 2, 1, 40, 50, 3, 3))
    k[:, :, 45], v[:, :, 45] = np.nan, np.inf  # behind the last query
    birth = traced((q, k, v, dy), causal=True, window=30, prefix=2, plant=(tensor, (0, 0, 30, 1)))["birth"]
    assert birth["index"] == (0, 0, 30, 1)
    assert cause(birth).startswith("unknown: what it was made of gives ")
    assert "nan" not in cause(birth)


def test_a_score_that_overflows_is_a_birth_where_it_is_seen():
    q, k, v, dy = make((1, 2, 1, 40, 40, 3, 3), np.float32)
    q[0, 1, 20], k[0, 0, 17] = 1e25, -1e25
    birth = traced((q, k, v, dy), causal=True, window=4)["birth"]
    assert birth["tensor"] == "scores"
    assert birth["index"] == (0, 1, 20, 17)
    assert birth["value"] == -np.inf
    assert cause(birth).startswith("product overflow: q[")
    assert not traced((q, k, v, dy), causal=True, window=4)["scores_finite"]
    hidden = traced((q, k, v, dy), causal=True, window=3)
    assert hidden["birth"] is None
    assert hidden["scores_finite"]


def test_a_score_that_its_scale_takes_beyond_the_range():
    arrays = [np.full((1, 1, 1, 2), x, np.float32) for x in (1e15, 1e15, 1, 1)]
    birth = traced(arrays, scale=1e10)["birth"]
    assert birth["tensor"] == "scores"
    assert cause(birth).startswith("product overflow: q times k 2e+30 times scale 1e+10 is 2e+40")


@pytest.mark.parametrize("kind", [{}, {"causal": True, "window": 4}], ids=str)
def test_a_mean_of_finite_values_overflows_only_where_dropout_scales_it(kind):
    q, k, v, dy = make((1, 4, 2, 5, 5, 3, 3), np.float32)
    v[:] = 3e38
    assert traced((q, k, v, np.zeros_like(dy)), **kind)["birth"] is None
    birth = traced((q, k, v, dy), **kind, dropout=0.5, seed=1)["birth"]
    assert birth["tensor"] == "y"
    found = attention(birth, Numbers(birth["operands"], "float32", birth["value"]))
    assert set(found.operands) == {"probability", "v"}
    assert found.kind in ("product overflow", "sum overflow")


@pytest.mark.parametrize(
    "kind", [{"causal": True}, {"causal": True, "window": 2}, {"causal": True, "prefix": 4}], ids=str
)
def test_a_gradient_that_overflows(kind):
    q, k, v, dy = make((1, 4, 2, 5, 5, 3, 3), np.float32)
    v[:], dy[:] = 1e30, 1e30
    birth = traced((q, k, v, dy), **kind)["birth"]
    assert birth["tensor"] == "dq"
    assert cause(birth).startswith("inf - inf: the gradient of a probability, dy times v, is ")


@pytest.mark.parametrize("probability", [0, 1])
def test_a_gradient_that_leaves_the_range_on_the_way(probability):
    """The terms of dy times v cancel, and the first two of them are beyond the range together."""
    q, k, v, dy = make((1, 1, 1, 2, 2, 3, 4), np.float32)
    q[:], k[:], dy[:], v[:] = 10, 10, 2e19, 0
    dy[0, 0, 0] = 0  # of the query that sees the first key alone
    k[0, 0, 0] = 10 if probability else -1000
    v[0, 0, 0] = 1.5e19, 1.5e19, -1.5e19, -1.5e19
    if probability:
        k[0, 0, 1] = -1000
    birth = traced((q, k, v, dy), causal=True)["birth"]
    assert birth["tensor"] == "dq"
    kind = "sum overflow" if probability else "0*inf"
    assert cause(birth).startswith(f"{kind}: the gradient of a probability, dy times v, adds up numbers of 1.2e+39")
