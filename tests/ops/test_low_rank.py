"""low_rank: against numpy, by differences, float against double on every instruction set, deaf to thread count.

The instruction set is chosen once per process: `python test_low_rank.py` prints the errors of one.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from sweeps import POWERS

import loopos
from loopos import ops

# rows, in, out of the part, rank, columns before it, columns of y
SHAPES = [
    (1, 1, 1, 1, 0, 1),
    (7, 5, 3, 2, 1, 6),
    (33, 70, 48, 8, 16, 64),
    (300, 65, 31, 5, 0, 31),
    (70, 300, 130, 16, 3, 140),
]


def drawn(shape, dtype=np.float64, seed=0, scale=1.0):
    rows, ins, outs, rank, _, width = shape
    rng = np.random.default_rng(seed)
    sizes = ((rows, ins), (rank, ins), (outs, rank), (rows, width), (rows, width))
    x, a, b, y, dy = ((scale * rng.standard_normal(s)).astype(np.float32).astype(dtype) for s in sizes)
    return x, a / np.sqrt(ins).astype(dtype), b, y, dy


def expected(x, a, b, y, dy, scale, first):
    """In float64."""
    x, a, b, y, dy = (v.astype(np.float64) for v in (x, a, b, y, dy))
    part = slice(first, first + b.shape[0])
    y = y.copy()
    y[..., part] += scale * x @ a.T @ b.T
    dinner = scale * dy[:, part] @ b
    return y, dinner @ a, dinner.T @ x, scale * dy[:, part].T @ (x @ a.T)


def computed(x, a, b, y, dy, scale, first):
    options = {"scale": scale, "first": first}
    return ops.low_rank(x, a, b, y, **options), *ops.low_rank_backward(dy, x, a, b, **options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, -0.3])
def test_forward_and_backward_against_numpy(shape, scale):
    given = drawn(shape)
    kept = [v.copy() for v in given]
    for got, want in zip(computed(*given, scale, shape[4]), expected(*given, scale, shape[4]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    for one, other in zip(given, kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_y_it_is_added_to_zeros_and_axes_stay():
    x, a, b, _, dy = drawn((12, 5, 3, 2, 0, 3))
    y = ops.low_rank(x.reshape(3, 4, 5), a, b)
    np.testing.assert_allclose(y, (x @ a.T @ b.T).reshape(3, 4, 3), rtol=1e-13)
    assert ops.low_rank(x, a, b, first=4).shape == (12, 7)
    assert not ops.low_rank(x, a, b, first=4)[:, :4].any()
    dx, da, db = ops.low_rank_backward(dy.reshape(3, 4, 3), x.reshape(3, 4, 5), a, b)
    assert (dx.shape, da.shape, db.shape) == ((3, 4, 5), (2, 5), (3, 2))


def test_gradients_by_differences(check_gradient):
    x, a, b, y, _ = drawn((6, 5, 4, 3, 2, 8))
    more = {"scale": 0.7, "first": 2}
    check_gradient(
        lambda v: ops.low_rank(v, a, b, y, **more), lambda dy, v: ops.low_rank_backward(dy, v, a, b, **more)[0], x
    )
    check_gradient(
        lambda v: ops.low_rank(x, v, b, y, **more), lambda dy, v: ops.low_rank_backward(dy, x, v, b, **more)[1], a
    )
    check_gradient(
        lambda v: ops.low_rank(x, a, v, y, **more), lambda dy, v: ops.low_rank_backward(dy, x, a, v, **more)[2], b
    )
    check_gradient(lambda v: ops.low_rank(x, a, b, v, **more), lambda dy, v: dy, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_every_number_of_threads(dtype, check_threads):
    given = [drawn(shape, dtype) for shape in (*SHAPES[1:], (1100, 576, 192, 8, 576, 960), (1, 576, 192, 8, 0, 192))]
    check_threads(lambda: [part for each in given for part in computed(*each, 2.0, 0)])


def test_rows_do_not_know_their_neighbours():
    x, a, b, y, _ = drawn((77, 300, 45, 8, 0, 45), np.float32)
    whole = ops.low_rank(x, a, b, y, scale=0.5)
    for r in (0, 11, 12, 76):
        assert ops.low_rank(x[r], a, b, y[r], scale=0.5).tobytes() == whole[r].tobytes()


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_nothing_and_extremes(rows):
    for ins, outs, rank in ((0, 3, 2), (4, 0, 2), (4, 3, 0)):
        x, a, b, y, dy = drawn((rows, max(ins, 1), outs, rank, 1, outs + 1))
        x, a = x[:, :ins], a[:, :ins]
        for got, want in zip(computed(x, a, b, y, dy, 2.0, 1), expected(x, a, b, y, dy, 2.0, 1), strict=True):
            np.testing.assert_array_equal(got, want)
    for value in (1e4, -3e38, np.nan, np.inf):
        x, a, b, y, _ = drawn((4, 30, 6, 8, 0, 6), np.float32)
        x[1, 3] = value
        with np.errstate(all="ignore"):
            got = ops.low_rank(x, a, b, y)
            want = expected(x, a, b, y, y, 1.0, 0)[0].astype(np.float32)
        assert np.isfinite(got[[0, 2, 3]]).all()
        np.testing.assert_array_equal(
            np.isfinite(got[1]), np.isfinite(want[1]) if value != -3e38 else np.isfinite(got[1])
        )


def test_refusals():
    x, a, b, y, dy = drawn((4, 5, 3, 2, 0, 3))
    with pytest.raises(ValueError, match=r"low_rank: a must be \(R, I\) with I the last axis of x"):
        ops.low_rank(x, a[:, 1:], b)
    with pytest.raises(ValueError, match=r"low_rank: b must be \(O, R\) with R the first axis of a"):
        ops.low_rank(x, a, b[:, 1:])
    with pytest.raises(ValueError, match=r"low_rank: y must have the leading axes of x, .* first \+ O = 4 columns"):
        ops.low_rank(x, a, b, y, first=1)
    with pytest.raises(ValueError, match="low_rank_backward: dy must have"):
        ops.low_rank_backward(dy[1:], x, a, b)
    with pytest.raises(ValueError, match="low_rank: scale must be finite"):
        ops.low_rank(x, a, b, scale=np.inf)
    with pytest.raises(ValueError, match="low_rank: first must not be negative"):
        ops.low_rank(x, a, b, first=-1)
    with pytest.raises(TypeError, match=r"low_rank: a .*float64"):
        ops.low_rank(x, a.astype(np.float32), b)


def figures():
    """Worst relative error of float32 against float64 over input scales 2^0 to 2^9."""
    worst = 0.0
    for shape in SHAPES:
        for power in POWERS:
            given = drawn(shape, np.float32, seed=power, scale=2.0**power)
            for got, want in zip(computed(*given, 0.5, shape[4]), expected(*given, 0.5, shape[4]), strict=True):
                worst = max(worst, float(np.linalg.norm(got - want) / np.linalg.norm(want)))
    return {"isa": loopos._core.isa(), "worst": worst}


def test_float_against_double_on_every_instruction_set(measure):
    assert measure("test_low_rank.py")["worst"] < 1e-6  # two products, one after another


if __name__ == "__main__":
    print(json.dumps(figures()))
