"""layer_norm (and what ops/norm_rows.h shares with rms_norm): formula, differences, accuracy at a large mean,
extreme rows, thread count."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops
from loopos.gradients.gradcheck import GradcheckError, gradcheck


def reference(x, w=None, b=None, eps=1e-5):
    x = x.astype(np.float64)
    mean = x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    y = (x - mean) * rstd
    y = y if w is None else y * w
    return y if b is None else y + b, mean[..., 0], rstd[..., 0]


def draw(rng, *shapes, dtype=np.float64):
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 1), (4, 17), (2, 3, 64), (70, 33), (0, 5), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("parts", ["", "w", "b", "wb"])
def test_forward_is_the_formula(shape, parts):
    rng = np.random.default_rng(0)
    x, w, b = draw(rng, shape, shape[-1:], shape[-1:])
    w, b = w if "w" in parts else None, b if "b" in parts else None
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 5e-7)):
        cast = [None if a is None else a.astype(dtype) for a in (x, w, b)]
        for ours, want in zip(ops.layer_norm(*cast), reference(*cast), strict=True):
            assert ours.dtype == dtype
            assert ours.shape == want.shape
            np.testing.assert_allclose(ours, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(2, 3, 7), (40, 5), (1, 2)], ids=str)
@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_by_differences(shape, weighted):
    x, w, b = draw(np.random.default_rng(1), shape, shape[-1:], shape[-1:])
    inputs = (x, w, b) if weighted else (x,)

    def forward(*args):
        return ops.layer_norm(*args, eps=0.1)[0]

    def backward(dy, x, w=None, b=None):
        _, mean, rstd = ops.layer_norm(x, w, b, eps=0.1)
        return ops.layer_norm_backward(dy, x, w, mean, rstd)[: len(inputs)]

    gradcheck((forward, backward), inputs)
    for which in range(len(inputs)):

        def wrong(dy, *args, which=which):
            grads = list(backward(dy, *args))
            grads[which] = grads[which] * 1.001
            return tuple(grads)

        with pytest.raises(GradcheckError):
            gradcheck((forward, wrong), inputs)


def test_absent_weight_gives_none_twice():
    x = np.random.default_rng(2).standard_normal((3, 4))
    _, mean, rstd = ops.layer_norm(x)
    dx, dw, db = ops.layer_norm_backward(x, x, None, mean, rstd)
    assert dx.shape == x.shape
    assert dw is None
    assert db is None


@pytest.mark.parametrize(("ratio", "gates"), [(0, (5e-7, 5e-7, 1e-6, 1e-6)), (100, (5e-6,) * 4)])
@pytest.mark.parametrize("rows", [1, 300])
def test_float_meets_the_accuracy_gates(ratio, gates, rows):
    rng = np.random.default_rng(3)
    x, w, b, dy = draw(rng, (rows, 768), 768, 768, (rows, 768), dtype=np.float32)
    x += np.float32(ratio)
    wide = [a.astype(np.float64) for a in (x, w, b, dy)]
    results = []
    for x_, w_, b_, dy_ in ((x, w, b, dy), wide):
        y, mean, rstd = ops.layer_norm(x_, w_, b_)
        results.append((y, *ops.layer_norm_backward(dy_, x_, w_, mean, rstd)))
    for ours, want, gate in zip(*results, gates, strict=True):
        assert np.linalg.norm(ours - want) <= gate * np.linalg.norm(want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_inf_stay_in_their_row_and_show(dtype):
    for bad in (np.nan, np.inf, -np.inf):
        x = np.ones((3, 9), dtype) * np.arange(9, dtype=dtype)
        x[1, 8] = bad
        w = np.ones(9, dtype)
        y, mean, rstd = ops.layer_norm(x, w)
        assert np.isnan(y[1]).any()
        assert np.isfinite(y[[0, 2]]).all()
        dx, dw, db = ops.layer_norm_backward(np.ones_like(x), x, w, mean, rstd)
        assert not np.isfinite(dx[1]).all()
        assert np.isfinite(dx[[0, 2]]).all()
        assert not np.isfinite(dw).all()
        assert np.isfinite(db).all()
    w[3] = np.nan
    assert np.isnan(ops.layer_norm(x, w)[0][:, 3]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, thread_count):
    rng = np.random.default_rng(4)
    cases = [draw(rng, (r, n), n, n, (r, n), dtype=dtype) for r, n in ((1, 7), (63, 65), (1301, 33), (130, 1000))]
    first = None
    for threads in (1, 2, 3, 5, 8):
        thread_count(threads)
        results = []
        for x, w, b, dy in cases:
            y, mean, rstd = ops.layer_norm(x, w, b)
            results += [y, mean, rstd, *ops.layer_norm_backward(dy, x, w, mean, rstd)]
        first = first or results
        for one, other in zip(first, results, strict=True):
            assert one.tobytes() == other.tobytes()


def test_views_give_the_result_of_their_copies():
    x, w = draw(np.random.default_rng(5), (9, 14), 14, dtype=np.float32)
    view, weight = x.T[::2], w[:9]
    y, mean, rstd = ops.layer_norm(view, weight)
    assert y.tobytes() == ops.layer_norm(view.copy(), weight)[0].tobytes()
    grads = [ops.layer_norm_backward(a, a, weight, mean[::1], rstd) for a in (view, view.copy())]
    for one, other in zip(*grads, strict=True):
        assert one.tobytes() == other.tobytes()


def test_refusals():
    x, w = np.zeros((2, 3)), np.zeros(3)
    for eps in (-1e-5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="layer_norm: eps"):
            ops.layer_norm(x, eps=eps)
    with pytest.raises(TypeError, match="layer_norm: weight"):
        ops.layer_norm(x, w.astype(np.float32))
    with pytest.raises(TypeError, match="layer_norm: x must be"):
        ops.layer_norm(np.zeros((2, 3), np.int64))
    for bad in (np.zeros(2), np.zeros((1, 3)), np.array(1.0)):
        with pytest.raises(ValueError, match=r"layer_norm: weight must have shape \(3,\)"):
            ops.layer_norm(x, bad)
        with pytest.raises(ValueError, match=r"layer_norm: bias must have shape \(3,\)"):
            ops.layer_norm(x, w, bad)
    with pytest.raises(ValueError, match="at least one axis"):
        ops.layer_norm(np.array(1.0))
    y, mean, rstd = ops.layer_norm(x, w)
    with pytest.raises(ValueError, match="layer_norm_backward: dy must have shape"):
        ops.layer_norm_backward(y[:1], x, w, mean, rstd)
    for which in (3, 4):
        args = [y, x, w, mean, rstd]
        args[which] = np.zeros((2, 1))
        with pytest.raises(ValueError, match=r"layer_norm_backward: (mean|rstd) must have shape \(2,\)"):
            ops.layer_norm_backward(*args)


@pytest.mark.reference
def test_parity_with_torch():
    torch = pytest.importorskip("torch")
    x, w, b, dy = draw(np.random.default_rng(6), (4, 9, 30), 30, 30, (4, 9, 30))
    tx, tw, tb = (torch.tensor(v, requires_grad=True) for v in (x, w, b))
    ty = torch.nn.functional.layer_norm(tx, (30,), tw, tb)
    ty.backward(torch.tensor(dy))
    y, mean, rstd = ops.layer_norm(x, w, b)
    pairs = zip(
        (y, *ops.layer_norm_backward(dy, x, w, mean, rstd)), (ty.detach(), tx.grad, tw.grad, tb.grad), strict=True
    )
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-11, atol=1e-13)
