"""linear: exact on integers, checked by differences, against torch, deaf to thread count; and ops/column_sums.h
behind its bias gradient."""

from __future__ import annotations

import numpy as np
import pytest
from sweeps import THREADS

from loopos import ops
from loopos.gradients.gradcheck import GradcheckError, gradcheck


def whole_numbers(rng, shape, dtype):
    return rng.integers(-9, 10, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1),
        (7, 3, 5),
        (13, 33, 17),
        (64, 128, 96),
        (1030, 65, 33),
        (2600, 9, 130),
        (40, 257, 260),
        (3, 300, 14011),
        (200, 1030, 1100),
        (0, 3, 4),
        (3, 0, 4),
        (3, 4, 0),
    ],
    ids=str,
)
def test_whole_numbers_are_exact(shape, dtype):
    rows, ins, outs = shape
    rng = np.random.default_rng(0)
    x, w, b, dy = (whole_numbers(rng, s, dtype) for s in ((rows, ins), (outs, ins), (outs,), (rows, outs)))
    wide = [v.astype(np.float64) for v in (x, w, b, dy)]
    np.testing.assert_array_equal(ops.linear(x, w), wide[0] @ wide[1].T)
    np.testing.assert_array_equal(ops.linear(x, w, b), wide[0] @ wide[1].T + wide[2])
    dx, dw, db = ops.linear_backward(dy, x, w)
    np.testing.assert_array_equal(dx, wide[3] @ wide[1])
    np.testing.assert_array_equal(dw, wide[3].T @ wide[0])
    np.testing.assert_array_equal(db, wide[3].sum(0))
    assert [g.dtype for g in (dx, dw, db)] == [dtype] * 3
    without = ops.linear_backward(dy, x, w, has_bias=False)
    assert without[2] is None
    assert without[0].tobytes() == dx.tobytes()
    assert without[1].tobytes() == dw.tobytes()


@pytest.mark.parametrize("lead", [(), (0,), (4,), (2, 3), (2, 0, 3)], ids=str)
def test_any_leading_axes(lead):
    rng = np.random.default_rng(1)
    x, w, b, dy = (whole_numbers(rng, s, np.float64) for s in ((*lead, 3), (5, 3), (5,), (*lead, 5)))
    np.testing.assert_array_equal(ops.linear(x, w, b), x @ w.T + b)
    dx, dw, db = ops.linear_backward(dy, x, w)
    np.testing.assert_array_equal(dx, dy @ w)
    np.testing.assert_array_equal(dw, dy.reshape(-1, 5).T @ x.reshape(-1, 3))
    np.testing.assert_array_equal(db, dy.reshape(-1, 5).sum(0))


def test_gradients_by_differences_and_a_planted_error():
    rng = np.random.default_rng(2)
    inputs = tuple(rng.standard_normal(s) for s in ((2, 3, 4), (5, 4), (5,)))

    def backward(dy, x, w, b):
        return ops.linear_backward(dy, x, w)

    gradcheck((ops.linear, backward), inputs)
    for which in range(3):

        def wrong(dy, x, w, b, which=which):
            grads = list(ops.linear_backward(dy, x, w))
            grads[which] = grads[which] * 1.001
            return tuple(grads)

        with pytest.raises(GradcheckError):
            gradcheck((ops.linear, wrong), inputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, thread_count):
    rng = np.random.default_rng(3)
    cases = [
        [rng.standard_normal(s).astype(dtype) for s in ((r, i), (o, i), (o,), (r, o))]
        for r, i, o in ((1, 7, 3), (1301, 65, 131), (260, 270, 40), (200, 1030, 1100))
    ]
    first = None
    for threads in (1, *THREADS):
        thread_count(threads)
        results = [part for x, w, b, dy in cases for part in (ops.linear(x, w, b), *ops.linear_backward(dy, x, w))]
        first = first or results
        for one, other in zip(first, results, strict=True):
            assert one.tobytes() == other.tobytes()


def test_rows_do_not_know_their_neighbours():
    """A row's result has the same bits alone and in a batch: what generation with and without a batch relies on."""
    rng = np.random.default_rng(4)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((77, 300), (45, 300), (45,)))
    y = ops.linear(x, w, b)
    for r in (0, 11, 12, 76):
        assert ops.linear(x[r], w, b).tobytes() == y[r].tobytes()


def test_extremes_and_nan_go_through():
    w = np.array([[1.0, 0.5]], np.float32)
    assert ops.linear(np.array([3e38, 0], np.float32), w)[0] == np.float32(3e38)
    assert np.isinf(ops.linear(np.array([3e38, 3e38], np.float32), w)[0])
    assert np.isnan(ops.linear(np.zeros((1, 2), np.float32), w, np.array([np.nan], np.float32))).all()
    dx, dw, db = ops.linear_backward(np.array([[np.nan]], np.float32), np.ones((1, 2), np.float32), w)
    assert np.isnan(dx).all()
    assert np.isnan(dw).all()
    assert np.isnan(db).all()


def test_views_give_the_result_of_their_copies():
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((8, 6, 10)).astype(np.float32), rng.standard_normal((10, 7)).astype(np.float32)
    b = rng.standard_normal(14).astype(np.float32)[::2]
    assert (
        ops.linear(x.swapaxes(0, 1), w.T, b).tobytes()
        == ops.linear(x.swapaxes(0, 1).copy(), w.T.copy(), b.copy()).tobytes()
    )


def test_refusals():
    x, w = np.zeros((2, 3)), np.zeros((4, 3))
    with pytest.raises(TypeError, match=r"linear: weight .*float64"):
        ops.linear(x, w.astype(np.float32))
    with pytest.raises(TypeError, match="linear: bias"):
        ops.linear(x, w, np.zeros(4, int))
    with pytest.raises(TypeError, match="linear: x must be"):
        ops.linear(np.zeros((2, 3), bool), w)
    with pytest.raises(ValueError, match=r"linear: bias must have shape \(4,\), got \(3,\)"):
        ops.linear(x, w, np.zeros(3))
    with pytest.raises(ValueError, match="linear: weight must be"):
        ops.linear(x, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="linear: weight must have 2 axes"):
        ops.linear(x, np.zeros(3))
    with pytest.raises(ValueError, match="linear: x must have at least one axis"):
        ops.linear(np.array(1.0), w)
    with pytest.raises(ValueError, match=r"linear_backward: dy must have shape \(2, 4\)"):
        ops.linear_backward(np.zeros((2, 3)), x, w)


@pytest.mark.reference
def test_parity_with_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    x, w, b, dy = (rng.standard_normal(s) for s in ((4, 9, 30), (20, 30), (20,), (4, 9, 20)))
    tx, tw, tb = (torch.tensor(v, requires_grad=True) for v in (x, w, b))
    ty = torch.nn.functional.linear(tx, tw, tb)
    ty.backward(torch.tensor(dy))
    pairs = zip(
        (ops.linear(x, w, b), *ops.linear_backward(dy, x, w)), (ty.detach(), tx.grad, tw.grad, tb.grad), strict=True
    )
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-13)
