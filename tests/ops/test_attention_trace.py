"""What a trace sees of attention: the scores of visible pairs alone, and operands that give the element."""

from __future__ import annotations

import numpy as np
import pytest
from attention_reference import forward, make, visible

from loopos import _core, ops

SHAPE = (2, 4, 2, 70, 75, 3, 5)
MASK = np.random.default_rng(7).random((4, 70, 75)) > 0.3
KINDS = {
    "full": {},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 4},
    "prefix": {"causal": True, "prefix": 6},
    "all": {"causal": True, "window": 3, "prefix": 20, "start": 5},
    "masked": {"causal": True, "window": 30, "prefix": 2, "mask": MASK},
    "documents": {
        "causal": True,
        "begins": np.array([np.repeat([0, 1, 40], [1, 39, 30]), np.repeat([0, 66], [66, 4])]),
    },
    "scaled": {"scale": -0.4},
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def traced(arrays, **options):
    q, k, v, dy = arrays
    return _core.ops._traced_attention(dy, q, k, v, **options)


def seen_by(kind):
    return visible(70, 75, **{k: v for k, v in kind.items() if k not in ("mask", "scale")}) & kind.get("mask", True)


@each_kind
@each_dtype
def test_it_changes_nothing(kind, dtype):
    q, k, v, dy = make(SHAPE, dtype)
    y, lse = ops.attention(q, k, v, **kind)
    got = traced((q, k, v, dy), **kind)
    assert got["birth"] is None
    for name, want in zip(("dq", "dk", "dv"), ops.attention_backward(dy, q, k, v, y, lse, **kind), strict=True):
        np.testing.assert_array_equal(got[name], want)
    np.testing.assert_array_equal(got["y"], y)


@each_kind
@each_dtype
def test_the_scores_of_visible_pairs_are_shown(kind, dtype):
    q, k, v, dy = make(SHAPE, dtype)
    scores = traced((q, k, v, dy), **kind)["scores"]
    want = np.einsum("bhtd,bhsd->bhts", q, np.repeat(k, 2, axis=1)) * kind.get("scale", 3**-0.5)
    seen = np.broadcast_to(seen_by(kind), scores.shape)
    np.testing.assert_allclose(scores[seen], want[seen], rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-6)
    assert not scores[~seen].any()


@each_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_score_is_found_where_it_is_seen(kind, bad):
    arrays = make(SHAPE)
    seen = np.broadcast_to(seen_by(kind), (2, 4, 70, 75))[1, 0]
    for key in (0, 3, 40, 74):
        q, k, v, dy = (x.copy() for x in arrays)
        k[1, 0, key] = bad
        got = traced((q, k, v, dy), **kind)
        birth = got["birth"]
        assert got["scores_finite"] == (birth is None or birth["tensor"] != "scores") == (not seen[:, key].any())
        if not got["scores_finite"]:
            first = int(np.argmax(seen[:, key]))
            assert birth["index"] == (1, 0, first, key)
            np.testing.assert_array_equal(birth["operands"]["q"], q[1, 0, first])
            np.testing.assert_array_equal(birth["operands"]["k"], k[1, 0, key])


def element(tensor, o, scale):
    """What the operands give."""
    p, dropped = o["probability"], o.get("dropped", 1)
    if tensor in ("y", "dv"):
        return np.sum(p * dropped * o["v" if tensor == "y" else "dy"])
    dy, v, y = (o[name].reshape(-1, 5) for name in ("dy", "v", "y"))
    return np.sum(p * ((dy * v).sum(1) * dropped - (dy * y).sum(1)) * scale * o["k" if tensor == "dq" else "q"])


@each_kind
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("tensor", ["y", "dq", "dk", "dv"])
def test_the_operands_give_the_element(tensor, kind, dropout):
    arrays = make(SHAPE)
    options = {**kind, "dropout": dropout, "seed": 11}
    want = traced(arrays, **options)[tensor]
    rng = np.random.default_rng(1)
    for _ in range(6):
        index = tuple(int(rng.integers(size)) for size in want.shape)
        birth = traced(arrays, **options, plant=(tensor, index))["birth"]
        assert (birth["tensor"], birth["index"]) == (tensor, index)
        got = element(tensor, birth["operands"], kind.get("scale", 3**-0.5))
        assert got == pytest.approx(want[index], rel=1e-11, abs=1e-13)


@each_kind
def test_dropout_of_a_probability_is_that_of_its_place_in_the_whole(kind):
    q, k, v, dy = make(SHAPE)
    scales = ops.dropout(np.ones((2, 4, 70, 75)), 0.4, seed=11)
    seen = seen_by(kind)
    columns = np.eye(75)[None, None].repeat(2, 0).repeat(2, 1)  # as values they give the probabilities themselves
    p, _ = forward(q, k, columns, seen, kind.get("scale"))
    want = np.einsum("bhts,bhsd->bhtd", p * scales, np.repeat(v, 2, axis=1))
    got = traced((q, k, v, dy), **kind, dropout=0.4, seed=11)
    np.testing.assert_allclose(got["y"], want, rtol=1e-11, atol=1e-13)
    want = np.einsum("bhts,bhtd->bhsd", p * scales, dy).reshape(2, 2, 2, 75, 5).sum(2)
    np.testing.assert_allclose(got["dv"], want, rtol=1e-11, atol=1e-13)


def test_without_queries_or_keys():
    for shape in ((1, 2, 1, 3, 0, 4, 4), (1, 2, 1, 0, 5, 4, 4)):
        got = traced(make(shape), causal=True, window=2)
        assert got["birth"] is None
        assert got["scores_finite"]
