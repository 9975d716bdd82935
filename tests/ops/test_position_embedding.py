"""position_embedding: formula, differences, dtypes and instruction sets, extremes, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops


def reference(x, weight, start):
    return x + weight[start : start + x.shape[1]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 1, 1), (3, 4, 33), (0, 2, 3), (2, 0, 3)])
@pytest.mark.parametrize("start", [0, 1])
def test_forward_is_numpys_sum(shape, start, dtype):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(shape).astype(dtype), rng.standard_normal((6, shape[2])).astype(dtype)
    np.testing.assert_array_equal(ops.position_embedding(x, weight, start=start), reference(x, weight, start))


@pytest.mark.parametrize("start", [0, 2])
def test_backward_is_the_derivative(check_gradient, start):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((3, 4, 5)), rng.standard_normal((7, 5))
    check_gradient(
        lambda v: ops.position_embedding(v, weight, start=start),
        lambda dy, v: ops.position_embedding_backward(dy, 7, start=start)[0],
        x,
    )
    check_gradient(
        lambda w: ops.position_embedding(x, w, start=start),
        lambda dy, w: ops.position_embedding_backward(dy, 7, start=start)[1],
        weight,
    )


def test_positions_outside_have_no_gradient():
    dweight = ops.position_embedding_backward(np.ones((2, 3, 4), np.float32), 9, start=5)[1]
    np.testing.assert_array_equal(dweight[:, 0], [0, 0, 0, 0, 0, 2, 2, 2, 0])


def test_float_agrees_with_double_at_every_scale(measured):
    for name in ("position_embedding", "position_embedding_dweight"):
        assert measured["scales"][name] < 3e-7


def test_extremes_and_nan():
    x = np.full((1, 2, 3), 3e38, np.float32)
    weight = np.array([[3e38] * 3, [-3e38] * 3], np.float32)
    np.testing.assert_array_equal(ops.position_embedding(x, weight), [[[np.inf] * 3, [0] * 3]])
    x[0, 1, 2] = np.nan
    dx, dweight = ops.position_embedding_backward(x, 2)
    for found in (ops.position_embedding(x, weight)[0], dx[0], dweight):
        np.testing.assert_array_equal(np.isnan(found), [[False] * 3, [False, False, True]])


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((5, 61, 700), np.float32), rng.standard_normal((61, 700), np.float32)
    check_threads(lambda: (ops.position_embedding(x, weight), *ops.position_embedding_backward(x, 61)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_positions_of_documents(dtype):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 5, 7)).astype(dtype), rng.standard_normal((6, 7)).astype(dtype)
    positions = np.array([[0, 1, 0, 1, 2], [0, 0, 0, 5, 0]])
    np.testing.assert_array_equal(ops.position_embedding(x, weight, positions=positions), x + weight[positions])
    dx, dweight = ops.position_embedding_backward(x, 6, positions=positions)
    want = np.zeros_like(weight)
    np.add.at(want, positions, x)
    np.testing.assert_array_equal(dx, x)
    np.testing.assert_array_equal(dweight, want)
    counted = np.broadcast_to(np.arange(1, 6), (2, 5)).copy()
    for got, like in (
        (ops.position_embedding(x, weight, positions=counted), ops.position_embedding(x, weight, start=1)),
        (
            ops.position_embedding_backward(x, 6, positions=counted)[1],
            ops.position_embedding_backward(x, 6, start=1)[1],
        ),
    ):
        np.testing.assert_array_equal(got, like)


def test_the_derivative_by_a_weight_that_several_tokens_share(check_gradient):
    rng = np.random.default_rng(0)
    x, weight, positions = (
        rng.standard_normal((2, 4, 5)),
        rng.standard_normal((7, 5)),
        np.array([[0, 1, 0, 0], [3] * 4]),
    )
    check_gradient(
        lambda w: ops.position_embedding(x, w, positions=positions),
        lambda dy, w: ops.position_embedding_backward(dy, 7, positions=positions)[1],
        weight,
    )


def test_documents_have_the_same_bits_with_any_number_of_threads(check_threads):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((5, 61, 700), np.float32), rng.standard_normal((61, 700), np.float32)
    own = {"positions": np.sort(rng.integers(0, 61, (5, 61)), 1)}
    check_threads(lambda: (ops.position_embedding(x, weight, **own), *ops.position_embedding_backward(x, 61, **own)))


def test_refused_positions():
    x, weight = np.ones((2, 3, 4), np.float32), np.ones((5, 4), np.float32)
    with pytest.raises(ValueError, match=r"positions must have shape \(B, T\) = \(2, 3\), got \(3,\)"):
        ops.position_embedding(x, weight, positions=np.arange(3))
    with pytest.raises(IndexError, match="positions must be from 0 to 4, got 5 at flat position 2"):
        ops.position_embedding(x, weight, positions=np.array([[0, 1, 5], [0, 0, 0]]))
    with pytest.raises(ValueError, match="give one of them, got start=1"):
        ops.position_embedding_backward(x, 5, start=1, positions=np.zeros((2, 3), int))
    with pytest.raises(TypeError, match="positions must be a numpy array of dtype int32 or int64"):
        ops.position_embedding(x, weight, positions=np.zeros((2, 3)))


def test_refusals():
    x, weight = np.ones((2, 3, 4), np.float32), np.ones((5, 4), np.float32)
    with pytest.raises(ValueError, match=r"positions 3 to 3 \+ 3 - 1 must lie in the table of 5 positions"):
        ops.position_embedding(x, weight, start=3)
    with pytest.raises(ValueError, match="must lie in the table"):
        ops.position_embedding(x, weight, start=-1)
    with pytest.raises(ValueError, match=r"weight must have shape \(positions, 4\), got \(5, 3\)"):
        ops.position_embedding(x, weight[:, :3])
    with pytest.raises(TypeError, match="start"):
        ops.position_embedding(x, weight, start=1.5)
    with pytest.raises(ValueError, match="num_positions must be at least 0"):
        ops.position_embedding_backward(x, -1)
    with pytest.raises(ValueError, match="must lie in the table of 2 positions"):
        ops.position_embedding_backward(x, 2)
    with pytest.raises(TypeError, match="weight must be a numpy array of dtype float32"):
        ops.position_embedding(x, weight.astype(np.float64))
