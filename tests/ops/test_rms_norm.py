"""rms_norm: formula, differences, extreme rows, thread count. What it shares with layer norm is tested there too."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops
from loopos.gradients.gradcheck import GradcheckError, gradcheck


def reference(x, w=None, eps=1e-6):
    x = x.astype(np.float64)
    rstd = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return x * rstd * (1 if w is None else w), rstd[..., 0]


def draw(rng, *shapes, dtype=np.float64):
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 1), (4, 17), (2, 3, 64), (70, 33), (0, 5), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 5e-7)])
def test_forward_is_the_formula(shape, weighted, dtype, tolerance):
    x, w = draw(np.random.default_rng(0), shape, shape[-1:], dtype=dtype)
    w = w if weighted else None
    for ours, want in zip(ops.rms_norm(x, w), reference(x, w), strict=True):
        assert ours.dtype == dtype
        assert ours.shape == want.shape
        np.testing.assert_allclose(ours, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_by_differences_and_a_planted_error(weighted):
    inputs = tuple(draw(np.random.default_rng(1), (3, 4, 7), 7))[: 1 + weighted]

    def forward(*args):
        return ops.rms_norm(*args, eps=0.1)[0]

    def backward(dy, x, w=None):
        return ops.rms_norm_backward(dy, x, w, ops.rms_norm(x, w, eps=0.1)[1])[: len(inputs)]

    gradcheck((forward, backward), inputs)
    for which in range(len(inputs)):

        def wrong(dy, *args, which=which):
            grads = list(backward(dy, *args))
            grads[which] = grads[which] * 1.001
            return tuple(grads)

        with pytest.raises(GradcheckError):
            gradcheck((forward, wrong), inputs)


def test_absent_weight_gives_none():
    x = np.random.default_rng(2).standard_normal((3, 4))
    assert ops.rms_norm_backward(x, x, None, ops.rms_norm(x)[1])[1] is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_rows_are_right_and_finite(dtype):
    top = dtype(3e38) if dtype == np.float32 else dtype(1e308)
    rows = np.array([[1, -1, -1, -1], [0, 0, 0, 1], [1, 0.5, 0.25, -1]], dtype)
    y, rstd = ops.rms_norm(rows * top)
    np.testing.assert_allclose(y, reference(rows, eps=0)[0], rtol=4e-7)
    dx, _ = ops.rms_norm_backward(np.ones_like(rows), rows * top, None, rstd)
    assert np.isfinite(dx).all()
    tiny = rows * dtype(1e-42)
    np.testing.assert_allclose(
        ops.rms_norm(tiny, eps=0.0)[0], reference(tiny.astype(np.float64) * 1e42, eps=0)[0], rtol=4e-7
    )
    assert (ops.rms_norm(np.zeros((2, 5), dtype))[0] == 0).all()
    for bad in (np.nan, np.inf):
        x = np.ones((3, 9), dtype)
        x[1, 8] = bad
        y, rstd = ops.rms_norm(x)
        assert np.isnan(y[1]).any()
        assert np.isfinite(y[[0, 2]]).all()
        dx, dw = ops.rms_norm_backward(np.ones_like(x), x, np.ones(9, dtype), rstd)
        assert not np.isfinite(dx[1]).all()
        assert not np.isfinite(dw).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, thread_count):
    rng = np.random.default_rng(3)
    cases = [draw(rng, (r, n), n, (r, n), dtype=dtype) for r, n in ((1, 7), (63, 65), (1301, 33), (130, 1000))]
    first = None
    for threads in (1, 2, 3, 5, 8):
        thread_count(threads)
        results = []
        for x, w, dy in cases:
            y, rstd = ops.rms_norm(x, w)
            results += [y, rstd, *ops.rms_norm_backward(dy, x, w, rstd)]
        first = first or results
        for one, other in zip(first, results, strict=True):
            assert one.tobytes() == other.tobytes()


def test_refusals():
    x, w = np.zeros((2, 3)), np.zeros(3)
    for eps in (-1e-6, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rms_norm: eps"):
            ops.rms_norm(x, eps=eps)
    with pytest.raises(TypeError, match="rms_norm: weight"):
        ops.rms_norm(x, w.astype(np.float32))
    with pytest.raises(TypeError, match="rms_norm: x must be"):
        ops.rms_norm(np.zeros((2, 3), np.int32))
    with pytest.raises(ValueError, match=r"rms_norm: weight must have shape \(3,\)"):
        ops.rms_norm(x, np.zeros(4))
    with pytest.raises(ValueError, match="rms_norm_backward: dy must have shape"):
        ops.rms_norm_backward(x[:1], x, w, np.zeros(2))
    with pytest.raises(ValueError, match=r"rms_norm_backward: rstd must have shape \(2,\)"):
        ops.rms_norm_backward(x, x, w, np.zeros(3))


@pytest.mark.reference
def test_parity_with_torch():
    torch = pytest.importorskip("torch")
    x, w, dy = draw(np.random.default_rng(4), (4, 9, 30), 30, (4, 9, 30))
    tx, tw = (torch.tensor(v, requires_grad=True) for v in (x, w))
    ty = torch.nn.functional.rms_norm(tx, (30,), tw, eps=1e-6)
    ty.backward(torch.tensor(dy))
    y, rstd = ops.rms_norm(x, w)
    for ours, theirs in zip((y, *ops.rms_norm_backward(dy, x, w, rstd)), (ty.detach(), tx.grad, tw.grad), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-11, atol=1e-13)
