"""Attention with a window, a prefix, a start and from a memory: five proofs, and kinds that mean the same agree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from attention_reference import forward, make, relative, visible
from measure_attention import KINDS

import loopos
from loopos import ops


def begins(t, *rows):
    """(B, T): where the document of each query begins, from the first tokens of the documents of each row."""
    return np.array([[max(first for first in row if first <= at) for at in range(t)] for row in rows])


# (B, H, Hkv, T, S, D, Dv) and who sees what. Tiles are of 32 to 64 queries: more, fewer and odd numbers of them
CASES = [
    ((1, 1, 1, 1, 1, 1, 1), {"causal": True, "window": 1}),
    ((2, 4, 2, 5, 5, 8, 8), {"causal": True, "window": 2}),
    ((2, 4, 2, 5, 5, 8, 8), {"causal": True, "prefix": 3}),
    ((1, 6, 2, 7, 7, 5, 9), {"causal": True, "window": 2, "prefix": 1}),
    ((1, 2, 1, 130, 130, 12, 12), {"causal": True, "window": 1}),
    ((1, 2, 1, 130, 130, 12, 12), {"causal": True, "window": 33}),
    ((1, 2, 1, 130, 130, 12, 12), {"causal": True, "window": 7, "prefix": 40}),
    ((1, 2, 1, 130, 130, 12, 12), {"causal": True, "window": 64, "prefix": 65}),
    ((1, 2, 1, 130, 130, 12, 12), {"causal": True, "prefix": 97}),
    ((1, 2, 1, 130, 130, 12, 12), {"causal": True, "prefix": 130}),
    ((1, 2, 2, 40, 170, 12, 8), {"causal": True, "window": 50, "start": 130}),
    ((1, 2, 2, 40, 170, 12, 8), {"causal": True, "window": 50, "start": 130, "prefix": 11}),
    ((1, 2, 1, 1, 77, 16, 16), {"causal": True, "window": 5, "start": 76}),
    ((1, 2, 1, 90, 20, 4, 4), {"causal": True, "window": 6}),  # the last queries see nothing
    ((1, 2, 1, 90, 20, 4, 4), {"causal": True, "window": 6, "prefix": 3}),  # but the prefix
    ((1, 2, 1, 90, 20, 4, 4), {"causal": True, "window": 6, "prefix": 20}),
    ((2, 4, 2, 9, 61, 8, 8), {}),  # from a memory
    ((1, 3, 3, 61, 9, 8, 5), {}),
    ((1, 2, 1, 400, 400, 8, 8), {"causal": True, "window": 100, "prefix": 3}),
    # documents: of one token each; several and one; beyond a tile; under a window; behind a cache, one of them padded
    ((2, 4, 2, 7, 7, 5, 9), {"causal": True, "begins": begins(7, range(7), [0, 3])}),
    ((2, 2, 1, 130, 130, 12, 12), {"causal": True, "begins": begins(130, [0, 1, 33, 100], [0])}),
    ((2, 4, 2, 400, 400, 8, 8), {"causal": True, "begins": begins(400, [0, 200, 290], [0, 5, 395])}),
    ((2, 2, 1, 400, 400, 8, 8), {"causal": True, "window": 50, "begins": begins(400, [0, 200, 210], [0, 130])}),
    ((2, 2, 2, 40, 170, 12, 8), {"causal": True, "start": 130, "begins": np.array([[7] * 40, [0] * 40])}),
]
IDS = [
    f"T{shape[3]}-S{shape[4]}-" + ("-".join(k if k == "begins" else f"{k}{v}" for k, v in kind.items()) or "full")
    for shape, kind in CASES
]


def all_of(arrays, **options):
    """y, lse, dq, dk, dv."""
    q, k, v, dy = arrays
    y, lse = ops.attention(q, k, v, **options)
    return y, lse, *ops.attention_backward(dy, q, k, v, y, lse, **options)


def same_bits(got, want):
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(got, want, strict=True))


def mask_for(shape):
    b, _, _, t, s, _, _ = shape
    return np.random.default_rng(1).random((b, 1, t, s)) > 0.3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("shape", "kind"), CASES, ids=IDS)
def test_forward_is_the_formula(shape, kind, masked):
    q, k, v, _ = make(shape)
    mask = mask_for(shape) if masked else None
    seen = visible(shape[3], shape[4], **kind) & (True if mask is None else mask)
    want, want_lse = forward(q, k, v, seen)
    y, lse = ops.attention(q, k, v, mask=mask, **kind)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(lse, want_lse, rtol=1e-12, atol=1e-13)
    rounded = [x.astype(np.float32) for x in (q, k, v)]
    y32, lse32 = ops.attention(*rounded, mask=mask, **kind)
    want, want_lse = forward(*rounded, seen)
    assert relative(y32, want) < 2e-6
    np.testing.assert_allclose(lse32, want_lse, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("shape", "kind"), CASES, ids=IDS)
def test_backward_against_differences(shape, kind, masked):
    *args, dy = make(shape)
    options = {"mask": mask_for(shape) if masked else None, "scale": 0.7, **kind}
    grads = all_of((*args, dy), **options)[2:]
    rng = np.random.default_rng(3)
    for which, gradient in enumerate(grads):
        direction = rng.standard_normal(args[which].shape)
        shifted = []
        for sign in (1, -1):
            moved = list(args)
            moved[which] = args[which] + sign * 1e-6 * direction
            shifted.append(np.sum(dy * ops.attention(*moved, **options)[0]))
        # Of a query that sees one key, which has nothing to weigh, dq and dk are the rounding of dy itself.
        size = np.linalg.norm(direction) * max(np.linalg.norm(gradient), 1e-5 * np.linalg.norm(dy))
        numeric, exact = (shifted[0] - shifted[1]) / 2e-6, np.sum(direction * gradient)
        assert abs(numeric - exact) <= 1e-6 * abs(exact) + 1e-8 * size
        if shape[3] > 1 and kind.get("window") != 1:
            assert gradient.any()


@pytest.mark.parametrize(
    "kind", [{"window": 3}, {"prefix": 2}, {"window": 2, "prefix": 3}, {"window": 4, "start": 1}], ids=str
)
def test_a_planted_error_of_a_tenth_of_a_percent_is_caught(kind):
    kind = {"causal": True, **kind}
    arguments = make((1, 2, 1, 6, 6, 4, 4))[:3]

    def backward(dy, *args, error=0.0):
        dq, dk, dv = all_of((*args, dy), **kind)[2:]
        return dq, dk * (1 + error), dv

    def at_large(*args):
        return ops.attention(*args, **kind)[0]

    assert loopos.gradcheck((at_large, backward), arguments)
    with pytest.raises(loopos.GradcheckError):
        loopos.gradcheck((at_large, lambda *a: backward(*a, error=1e-3)), arguments)


def test_float_agrees_with_double(measure):
    worst = measure("../support/measure_attention.py")["worst"]
    assert set(worst) == set(KINDS)
    assert max(worst.values()) < 2e-6, worst


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [70, 300])
def test_kinds_that_mean_the_same_have_the_same_bits(dtype, size):
    arrays = make((2, 4, 2, size, size, 24, 24), dtype)
    causal, full = all_of(arrays, causal=True), all_of(arrays)
    for window in (size, size + 1, 2**62):
        assert same_bits(all_of(arrays, causal=True, window=window), causal)
    assert same_bits(all_of(arrays, causal=True, window=None, prefix=0, start=0), causal)
    assert same_bits(all_of(arrays, causal=True, prefix=size), full)
    assert same_bits(all_of(arrays, causal=True, prefix=size, window=1), full)
    assert same_bits(all_of(arrays, causal=True, start=size - 1), full)
    assert same_bits(all_of(arrays, causal=True, begins=np.zeros((2, size), np.int32)), causal)
    assert not same_bits(all_of(arrays, causal=True, begins=begins(size, [0, size - 1], [0])), causal)
    assert not same_bits(all_of(arrays, causal=True, window=size - 1), causal)
    assert not same_bits(all_of(arrays, causal=True, prefix=2), causal)


@pytest.mark.parametrize("kind", [{}, {"window": 40}, {"prefix": 50}, {"window": 9, "prefix": 13}], ids=str)
@pytest.mark.parametrize("block", [1, 37])
def test_queries_after_a_cache_are_the_rows_of_the_whole(kind, block):
    total = 150
    q, k, v, _ = make((1, 4, 2, total, total, 16, 16), np.float32)
    whole, whole_lse = ops.attention(q, k, v, causal=True, **kind)
    for start in range(0, total - block + 1, block):
        upto = start + block
        rows = np.ascontiguousarray(q[:, :, start:upto])
        keys, values = (np.ascontiguousarray(x[:, :, : max(upto, kind.get("prefix", 0))]) for x in (k, v))
        y, lse = ops.attention(rows, keys, values, causal=True, start=start, **kind)
        np.testing.assert_allclose(y, whole[:, :, start:upto], rtol=0, atol=1e-6)
        np.testing.assert_allclose(lse, whole_lse[:, :, start:upto], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [{"window": 20}, {"window": 5, "prefix": 60}, {"prefix": 33}], ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_key_that_nobody_sees_never_leaks(dtype, kind, bad):
    t, s, hidden = 100, 140, 119  # keys behind the last query are seen by none
    arrays = list(make((1, 2, 1, t, s, 8, 8), dtype))
    clean = all_of(arrays, causal=True, **kind)
    arrays[1], arrays[2] = arrays[1].copy(), arrays[2].copy()
    arrays[1][:, :, hidden], arrays[2][:, :, hidden] = bad, bad
    spoiled = all_of(arrays, causal=True, **kind)
    close = 1e-13 if dtype == np.float64 else 2e-5  # what is done again over visible pairs is added in another order
    for got, want in zip(spoiled, clean, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=close)
    assert not spoiled[3][:, :, hidden].any()
    assert not spoiled[4][:, :, hidden].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("place", [0, 40, 99])
def test_a_bad_key_reaches_just_the_queries_that_see_it(dtype, place):
    kind = {"causal": True, "window": 20, "prefix": 5}
    q, k, v, dy = make((1, 2, 1, 100, 100, 8, 8), dtype)
    for spoiled in (k, v):
        kept = spoiled[:, :, place].copy()
        spoiled[:, :, place] = np.nan
        y, _, dq, _, _ = all_of((q, k, v, dy), **kind)
        spoiled[:, :, place] = kept
        seen = visible(100, 100, **kind)[:, place]
        for got in (y, dq):
            bad = np.isnan(got).any(axis=(0, 1, 3))
            np.testing.assert_array_equal(bad, seen)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_documents_that_share_a_row_are_rows_of_their_own(dtype, bad):
    firsts = [0, 3, 4, 100, 131]
    arrays = make((1, 4, 2, 170, 170, 8, 8), dtype)
    packed = all_of(arrays, causal=True, begins=begins(170, firsts))
    parts = list(zip(firsts, [*firsts[1:], 170], strict=True))
    alone = [all_of([np.ascontiguousarray(x[:, :, a:z]) for x in arrays], causal=True) for a, z in parts]
    close = 1e-14 if dtype == np.float64 else 3e-6
    for got, want in zip(packed, (np.concatenate(each, 2) for each in zip(*alone, strict=True)), strict=True):
        np.testing.assert_allclose(got, want, rtol=close, atol=close)
    for spoiled in arrays:  # of the third document: no other one changes by more than the order of a sum
        spoiled[:, :, 50] = bad
    found = all_of(arrays, causal=True, begins=begins(170, firsts))
    other = np.r_[0:4, 100:170]
    for got, want in zip(found, packed, strict=True):
        np.testing.assert_allclose(got[:, :, other], want[:, :, other], rtol=close, atol=close)
        assert not np.isfinite(got[:, :, 4:100]).all()


@pytest.mark.parametrize("size", [1e4, 3e38])
def test_large_finite_input(size):
    q, k, v, _ = make((1, 1, 1, 90, 90, 2, 2), np.float32)
    y, lse = ops.attention(q, k, (np.sign(v) * size).astype(np.float32), causal=True, window=10, prefix=4)
    assert np.isfinite(y).all()
    assert np.isfinite(lse).all()
    assert np.abs(y).max() <= size * 1.000001


def test_a_window_of_one_gives_the_own_value():
    q, k, v, dy = make((1, 2, 2, 80, 80, 4, 4))
    y, lse, dq, dk, dv = all_of((q, k, v, dy), causal=True, window=1)
    np.testing.assert_array_equal(y, v)
    np.testing.assert_allclose(lse, np.sum(q * k, -1) / 2, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(dv, dy, rtol=1e-15)
    assert np.abs(dq).max() < 1e-14
    assert np.abs(dk).max() < 1e-14


def test_rows_that_see_nothing_are_zeros_and_counted():
    arrays = make((1, 2, 1, 50, 20, 4, 4))
    loopos.reset_guard_counts()
    y, lse, dq, _, dv = all_of(arrays, causal=True, window=6)
    blind = ~visible(50, 20, causal=True, window=6).any(1)
    assert blind.sum() == 25
    assert loopos.guard_counts()["attention"] == 2 * blind.sum()
    assert not y[:, :, blind].any()
    assert not dq[:, :, blind].any()
    assert (lse[:, :, blind] == -np.inf).all()
    assert np.isfinite(lse[:, :, ~blind]).all()
    assert np.isfinite(dv).all()
    nothing = all_of(arrays, causal=True, window=6, prefix=3, mask=np.zeros((50, 20), bool))
    assert (nothing[1] == -np.inf).all()
    assert not any(x.any() for x in (nothing[0], *nothing[2:]))


def test_without_keys_or_queries():
    for shape in ((1, 2, 1, 3, 0, 4, 4), (1, 2, 1, 0, 5, 4, 4), (0, 2, 1, 3, 3, 4, 4)):
        y, _, dq, dk, dv = all_of(make(shape), causal=True, window=2, start=7)
        assert not any(x.any() for x in (y, dq, dk, dv))
    late = np.full((1, 3), 9)  # behind every key
    y, lse, *_ = all_of(make((1, 2, 1, 3, 5, 4, 4)), causal=True, begins=late)
    assert not y.any()
    assert (lse == -np.inf).all()


MEMORY = """
import numpy as np
from loopos import ops
rng = np.random.default_rng(0)
q, k, v, dy = (rng.standard_normal((1, 8, 8192, 8), np.float32) for _ in range(4))
peak = lambda: int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])
few, some = (x[:, :, :64].copy() for x in (q, dy))
grads = ops.attention_backward(some, few, k, v, *ops.attention(few, k, v))
before = peak()
for kind in {kinds}:
    y, lse = ops.attention(q, k, v, **kind)
    grads = ops.attention_backward(dy, q, k, v, y, lse, **kind)
print(peak() - before)
"""


@pytest.mark.unsanitized("minutes of long sequences for a figure that the sanitizer's own memory would blur")
@pytest.mark.parametrize(
    "kinds", ["[{}, {'causal': True}]", "[{'causal': True, 'window': 1000, 'prefix': 1000}]"], ids=["whole", "window"]
)
def test_no_matrix_of_all_queries_and_keys_is_held(kinds):
    """One of a single head would be 256 MB; outputs and gradients are 8 MB."""
    environment = {**os.environ, "PYTHONPATH": str(Path(loopos.__file__).parents[1]), "LOOPOS_NUM_THREADS": "2"}
    script = MEMORY.replace("{kinds}", kinds)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    kilobytes = int(done.stdout)
    assert kilobytes < 32 * 1024


def test_bits_do_not_depend_on_threads(check_threads):
    arrays = make((1, 4, 2, 450, 450, 24, 24), np.float32)
    for kind in (
        {"window": 50},
        {"window": 50, "prefix": 70},
        {"prefix": 200},
        {"window": 30, "start": 5},
        {"begins": begins(450, [0, 9, 200])},
    ):
        check_threads(lambda kind=kind: all_of(arrays, causal=True, **kind))


def test_refusals():
    q, k, v, dy = make((1, 4, 2, 3, 5, 4, 4))
    y, lse = ops.attention(q, k, v)
    for words, error, wrong in [
        ("window must be at least 1 .* got 0", ValueError, {"causal": True, "window": 0}),
        ("window must be at least 1 .* got -3", ValueError, {"causal": True, "window": -3}),
        ("window is of causal attention, got window=2 with causal=False", ValueError, {"window": 2}),
        ("prefix is of causal attention, got prefix=2 with causal=False", ValueError, {"prefix": 2}),
        ("prefix must be from 0 to the number of keys, 5, got 6", ValueError, {"causal": True, "prefix": 6}),
        ("prefix must be from 0 to the number of keys, 5, got -1", ValueError, {"causal": True, "prefix": -1}),
        ("start must be from 0 to .* got -1", ValueError, {"causal": True, "start": -1}),
        ("start must be from 0 to", ValueError, {"causal": True, "start": 2**63 - 1}),
        ("window", ValueError, {"causal": True, "window": 2**64}),
        ("window must be", TypeError, {"causal": True, "window": 2.0}),
        ("window must be", TypeError, {"causal": True, "window": True}),
        ("prefix must be", TypeError, {"causal": True, "prefix": None}),
        ("start must be", TypeError, {"causal": True, "start": "1"}),
        ("begins is of causal attention .* causal=False", ValueError, {"begins": np.zeros((1, 3), int)}),
        ("without a prefix, .* prefix=2", ValueError, {"causal": True, "prefix": 2, "begins": np.zeros((1, 3), int)}),
        (
            r"begins must have shape \(B, T\) = \(1, 3\), got \(3,\)",
            ValueError,
            {"causal": True, "begins": np.zeros(3, int)},
        ),
        (
            r"never fall along a row, got 1 after 2 at \[0, 2\]",
            ValueError,
            {"causal": True, "begins": np.array([[0, 2, 1]])},
        ),
        (r"must not be negative, got -1 at \[0, 0\]", ValueError, {"causal": True, "begins": np.array([[-1, 0, 0]])}),
        ("begins must be a numpy array of dtype int32", TypeError, {"causal": True, "begins": np.zeros((1, 3))}),
    ]:
        with pytest.raises(error, match=f"^attention: .*{words}"):
            ops.attention(q, k, v, **wrong)
        with pytest.raises(error, match=f"^attention_backward: .*{words}"):
            ops.attention_backward(dy, q, k, v, y, lse, **wrong)
    assert ops.attention(q, k, v, causal=True, window=np.int64(2), prefix=np.int32(1), start=2**62)[0].any()


_ANSWERED = [not (~visible(c[0][3], c[0][4], **c[1])).all(1).any() for c in CASES]  # torch: NaN for a row without keys


@pytest.mark.reference
@pytest.mark.parametrize(("shape", "kind"), [c for c, sure in zip(CASES, _ANSWERED, strict=True) if sure], ids=str)
def test_like_pytorch(shape, kind):
    torch = pytest.importorskip("torch")
    q, k, v, dy = make(shape)
    seen = visible(shape[3], shape[4], **kind)
    ours = all_of((q, k, v, dy), **kind)
    tq, tk, tv = (torch.tensor(x, requires_grad=True) for x in (q, k, v))
    ty = torch.nn.functional.scaled_dot_product_attention(tq, tk, tv, attn_mask=torch.tensor(seen), enable_gqa=True)
    ty.backward(torch.tensor(dy))
    np.testing.assert_allclose(ours[0], ty.detach().numpy(), rtol=1e-10, atol=1e-12)
    for got, want in zip(ours[2:], (tq, tk, tv), strict=True):
        np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.reference
@pytest.mark.parametrize("window", [1, 5, 64])
def test_the_window_is_that_of_transformers(window):
    masks = pytest.importorskip("transformers.masking_utils")
    torch = pytest.importorskip("torch")
    rule = masks.sliding_window_causal_mask_function(window)
    want = [[bool(rule(0, 0, torch.tensor(t), torch.tensor(s))) for s in range(80)] for t in range(80)]
    np.testing.assert_array_equal(visible(80, 80, causal=True, window=window), want)
