"""Attention: against numpy, against differences, across dtypes, at extremes, over thread counts."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos import ops


def reference(q, k, v, causal=False, mask=None, scale=None):
    """softmax(scale q kᵀ) v in float64, a row with nothing visible giving zeros."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("bhtd,bhsd->bhts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    visible = np.ones(scores.shape, bool)
    if causal:
        visible &= np.arange(k.shape[2])[None, :] <= np.arange(q.shape[2])[:, None]
    if mask is not None:
        visible &= mask
    scores = np.where(visible, scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (np.where(np.isfinite(top), top, 0) + np.log(total))[..., 0]
    return np.einsum("bhts,bhsd->bhtd", np.divide(e, total, out=np.zeros_like(e), where=total > 0), v), lse


def make(shape, dtype=np.float64, seed=0, scale=1.0):
    b, h, hkv, t, s, d, dv = shape
    rng = np.random.default_rng(seed)
    draw = lambda *dims: (scale * rng.standard_normal(dims)).astype(dtype)  # noqa: E731
    return draw(b, h, t, d), draw(b, hkv, s, d), draw(b, hkv, s, dv)


def normrel(got, want):
    return np.linalg.norm(got.astype(np.float64) - want) / max(np.linalg.norm(want), 1e-300)


SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 4, 2, 5, 5, 8, 8),
    (1, 6, 1, 7, 3, 5, 9),
    (2, 3, 3, 3, 11, 16, 4),
    (1, 2, 1, 70, 70, 32, 32),
    (1, 2, 2, 130, 65, 24, 24),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_forward_is_the_formula(shape, causal, masked):
    q, k, v = make(shape)
    b, _h, _, t, s, _, _ = shape
    mask = np.random.default_rng(1).random((b, 1, t, s)) > 0.4 if masked else None
    y, lse = ops.attention(q, k, v, causal=causal, mask=mask)
    want, want_lse = reference(q, k, v, causal, mask)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(lse, want_lse, rtol=1e-12, atol=1e-13)
    y32, lse32 = ops.attention(*(x.astype(np.float32) for x in (q, k, v)), causal=causal, mask=mask)
    assert y32.dtype == lse32.dtype == np.float32
    if np.linalg.norm(want) > 0:
        rounded, _ = reference(*(x.astype(np.float32) for x in (q, k, v)), causal, mask)
        assert normrel(y32, rounded) < 2e-6


@pytest.mark.parametrize("shape", SHAPES[:5])
@pytest.mark.parametrize("causal", [False, True])
def test_backward_against_differences(shape, causal):
    q, k, v = make(shape)
    b, h, _, t, s, _, dv = shape
    mask = np.random.default_rng(1).random((1, h, t, s)) > 0.3
    options = {"causal": causal, "mask": mask, "scale": 0.7}
    dy = np.random.default_rng(2).standard_normal((b, h, t, dv))
    y, lse = ops.attention(q, k, v, **options)
    grads = ops.attention_backward(dy, q, k, v, y, lse, **options)
    rng = np.random.default_rng(3)
    for which in range(3):
        direction = rng.standard_normal((q, k, v)[which].shape)
        shifted = []
        for sign in (1, -1):
            args = [q, k, v]
            args[which] = args[which] + sign * 1e-6 * direction
            shifted.append(np.sum(dy * ops.attention(*args, **options)[0]))
        numeric = (shifted[0] - shifted[1]) / 2e-6
        exact = np.sum(direction * grads[which])
        size = np.linalg.norm(direction) * np.linalg.norm(grads[which])
        assert abs(numeric - exact) <= 1e-6 * abs(exact) + 1e-8 * size
    if shape[3] > 1:
        assert all(np.any(g) for g in grads)


def test_a_planted_error_of_a_tenth_of_a_percent_is_caught():
    q, k, v = make(SHAPES[1])

    def forward(q, k, v):
        return ops.attention(q, k, v, causal=True)[0]

    def backward(dy, q, k, v, error=0.0):
        dq, dk, dv = ops.attention_backward(dy, q, k, v, *ops.attention(q, k, v, causal=True), causal=True)
        return dq, dk * (1 + error), dv

    assert loopos.gradcheck((forward, backward), (q, k, v))
    with pytest.raises(loopos.GradcheckError):
        loopos.gradcheck((forward, lambda *a: backward(*a, error=1e-3)), (q, k, v))


@pytest.mark.parametrize("power", range(0, 10, 3))
def test_float_agrees_with_double_over_scales(power):
    q, k, v = make((2, 4, 2, 33, 33, 16, 16), np.float32, scale=2.0**power / 8)
    dy = make((2, 4, 4, 33, 33, 16, 16), np.float32, seed=5)[0]
    wide = [x.astype(np.float64) for x in (q, k, v)]
    y, lse = ops.attention(q, k, v, causal=True)
    y64, lse64 = ops.attention(*wide, causal=True)
    # A score carries a rounding error of its own size times 2^-24, and the softmax turns it into a relative one.
    size = max(1.0, np.abs(np.einsum("bhtd,bhtd->bht", wide[0], np.repeat(wide[1], 2, axis=1))).max() / 4)
    assert normrel(y, y64) < 2e-6 * size
    grads = ops.attention_backward(dy, q, k, v, y, lse, causal=True)
    grads64 = ops.attention_backward(dy.astype(np.float64), *wide, y64, lse64, causal=True)
    for got, want in zip(grads, grads64, strict=True):
        assert normrel(got, want) < 3e-6 * size


def test_masked_rows_give_zeros_and_are_counted():
    q, k, v = make((1, 2, 2, 3, 3, 4, 4))
    mask = np.ones((3, 3), bool)
    mask[1] = False
    loopos.reset_guard_counts()
    y, lse = ops.attention(q, k, v, mask=mask)
    assert loopos.guard_counts()["attention"] == 2
    assert not y[:, :, 1].any()
    assert (lse[:, :, 1] == -np.inf).all()
    dq, dk, dv = ops.attention_backward(np.ones_like(y), q, k, v, y, lse, mask=mask)
    assert not dq[:, :, 1].any()
    assert np.isfinite(dk).all()
    assert np.isfinite(dv).all()
    assert dv.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["k", "v"])
def test_what_is_masked_out_never_leaks(dtype, bad, where):
    q, k, v = make((1, 2, 1, 6, 6, 4, 4), dtype)
    dy = np.ones((1, 2, 6, 4), dtype)
    clean = ops.attention(q, k, v, causal=True)
    clean_grads = ops.attention_backward(dy[:, :, :5], q[:, :, :5], k[:, :, :5], v[:, :, :5],
                                         *(np.ascontiguousarray(x[:, :, :5]) for x in clean), causal=True)  # fmt: skip
    {"k": k, "v": v}[where][0, 0, 5] = bad  # only query 5 may see key 5
    y, lse = ops.attention(q, k, v, causal=True)
    close = 1e-14 if dtype == np.float64 else 1e-6  # the sum over visible pairs alone is added up in another order
    np.testing.assert_allclose(y[:, :, :5], clean[0][:, :, :5], rtol=0, atol=close)
    assert not np.isfinite(y[:, :, 5]).all()
    mask = np.ones((6, 6), bool)
    mask[:, 5] = False
    y, lse = ops.attention(q, k, v, causal=True, mask=mask)
    assert np.isfinite(y).all()
    dq, dk, dv = ops.attention_backward(dy, q, k, v, y, lse, causal=True, mask=mask)
    assert all(np.isfinite(g).all() for g in (dq, dk, dv))
    assert not dk[:, :, 5].any()
    assert clean_grads[0].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_visible_nan_reaches_the_result(dtype):
    for which in range(3):
        args = list(make((1, 1, 1, 4, 4, 4, 4), dtype))
        args[which][0, 0, 2, 1] = np.nan
        y, _ = ops.attention(*args)
        assert np.isnan(y).any()


@pytest.mark.parametrize("size", [1e4, 3e38])
def test_large_finite_input(size):
    q, k, v = make((1, 1, 1, 4, 4, 2, 2), np.float32)
    y, lse = ops.attention(q, k, (np.sign(v) * size).astype(np.float32))
    assert np.isfinite(y).all()
    assert np.isfinite(lse).all()
    assert np.abs(y).max() <= size * 1.000001


def test_bits_do_not_depend_on_threads():
    q, k, v = make((3, 4, 2, 67, 67, 24, 24), np.float32)
    dy = make((3, 4, 4, 67, 67, 24, 24), np.float32, seed=9)[0]
    before = loopos.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 5, 8):
            loopos.set_num_threads(threads)
            y, lse = ops.attention(q, k, v, causal=True)
            results.append([y, lse, *ops.attention_backward(dy, q, k, v, y, lse, causal=True)])
    finally:
        loopos.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_empty_and_views():
    q, k, v = make((0, 2, 1, 3, 3, 4, 4))
    y, lse = ops.attention(q, k, v)
    assert y.shape == (0, 2, 3, 4)
    assert lse.shape == (0, 2, 3)
    q, k, v = make((1, 2, 1, 3, 0, 4, 4))
    y, lse = ops.attention(q, k, v)
    assert not y.any()
    assert (lse == -np.inf).all()
    q, k, v = make((2, 3, 3, 5, 5, 8, 8), np.float32)
    view = [np.asfortranarray(x) for x in (q, k, v)]
    np.testing.assert_array_equal(ops.attention(*view)[0], ops.attention(q, k, v)[0])
    mask = np.random.default_rng(0).random((5, 5)) > 0.2
    strided = np.repeat(mask, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(ops.attention(q, k, v, mask=strided)[0], ops.attention(q, k, v, mask=mask)[0])


def test_refusals():
    q, k, v = make((1, 4, 2, 3, 3, 4, 4))
    with pytest.raises(TypeError, match="k must be a numpy array of dtype float64"):
        ops.attention(q, k.astype(np.float32), v)
    with pytest.raises(ValueError, match="multiple of the heads"):
        ops.attention(q[:, :3].copy(), k, v)
    with pytest.raises(ValueError, match="head width"):
        ops.attention(q, k[..., :2].copy(), v)
    with pytest.raises(ValueError, match="4 axes"):
        ops.attention(q[0], k, v)
    with pytest.raises(ValueError, match="broadcastable"):
        ops.attention(q, k, v, mask=np.ones((2, 3), bool))
    with pytest.raises(TypeError, match="bool"):
        ops.attention(q, k, v, mask=np.ones((3, 3)))
    with pytest.raises(ValueError, match="finite"):
        ops.attention(q, k, v, scale=np.nan)
    with pytest.raises(TypeError, match="scale"):
        ops.attention(q, k, v, scale="1")
    y, lse = ops.attention(q, k, v)
    with pytest.raises(ValueError, match="lse must have shape"):
        ops.attention_backward(y, q, k, v, y, lse[:, :2].copy(), causal=False, mask=None, scale=None)


@pytest.mark.reference
@pytest.mark.parametrize("causal", [False, True])
def test_like_pytorch(causal):
    torch = pytest.importorskip("torch")
    q, k, v = make((2, 4, 2, 9, 9, 8, 8))
    dy = make((2, 4, 4, 9, 9, 8, 8), seed=3)[0]
    tq, tk, tv = (torch.tensor(x, requires_grad=True) for x in (q, k, v))
    ty = torch.nn.functional.scaled_dot_product_attention(tq, tk, tv, is_causal=causal, enable_gqa=True)
    ty.backward(torch.tensor(dy))
    y, lse = ops.attention(q, k, v, causal=causal)
    grads = ops.attention_backward(dy, q, k, v, y, lse, causal=causal)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-10, atol=1e-12)
    for got, want in zip(grads, (tq, tk, tv), strict=True):
        np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-9, atol=1e-12)
