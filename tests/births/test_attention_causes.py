"""The scores that attention does not keep, made again for one element: they give what the operation gave."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops
from loopos.births.arithmetic import Numbers
from loopos.births.attention_causes import _Sequence, attention

HEADS, KV_HEADS, WIDTH, TIME = 4, 2, 3, 5
SIZES = {"heads": HEADS, "kv_heads": KV_HEADS, "head_width": WIDTH}


@pytest.fixture
def qkv():
    return np.random.default_rng(0).standard_normal((TIME, (HEADS + 2 * KV_HEADS) * WIDTH))


def split(qkv):
    rows = qkv.reshape(1, TIME, -1, WIDTH).transpose(0, 2, 1, 3)
    return rows[:, :HEADS], rows[:, HEADS : HEADS + KV_HEADS], rows[:, HEADS + KV_HEADS :]


def numbers(qkv, **more):
    return Numbers({"qkv": qkv.ravel()} | SIZES | more, "float32", np.inf)


def test_its_probabilities_are_those_of_the_operation(qkv):
    y, _ = ops.attention(*split(qkv), causal=True)
    sequence = _Sequence(numbers(qkv))
    for head in range(HEADS):
        for query in range(TIME):
            own = sequence.probabilities(query, head) @ sequence.v[: query + 1, head // sequence.group]
            np.testing.assert_allclose(own.astype(float), y[0, head, query], rtol=1e-13, atol=1e-15)


def test_a_mean_of_finite_values_overflows_only_where_dropout_scales_it(qkv):
    qkv[:, (HEADS + KV_HEADS) * WIDTH :] = 3e38
    output = {"phase": "forward", "index": (0, 4, 0)}
    assert attention(output, numbers(qkv)).kind == "unknown"
    found = attention(output, numbers(qkv, dropout=0.9))
    assert set(found.operands) == {"probability", "v"}
    assert found.kind in ("product overflow", "sum overflow")


def test_a_gradient_that_overflows(qkv):
    y = np.zeros((TIME, HEADS * WIDTH))
    dy = np.full((TIME, HEADS * WIDTH), 1e30)
    qkv[:, (HEADS + KV_HEADS) * WIDTH :] = 1e30
    found = attention({"phase": "backward", "index": (0, 4, 0)}, numbers(qkv, dy=dy.ravel(), y=y.ravel()))
    assert found.kind == "product overflow"
    assert "dy times v" in found.words
