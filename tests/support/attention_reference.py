"""What attention is, in numpy: for the tests of its visibility, also in processes of their own."""

from __future__ import annotations

import numpy as np


def visible(t, s, causal=False, window=None, prefix=0, start=0, begins=None):
    """(T, S), or with begins (B, T) (B, 1, T, S), True where query t may see key s: each pair by the definition."""
    p, key = start + np.arange(t)[:, None], np.arange(s)[None, :]
    if not causal:
        return np.ones((t, s), bool)
    seen = key <= p
    if window is not None:
        seen &= key > p - window
    seen = seen | (key < prefix)
    return seen if begins is None else seen & (key >= begins[:, None, :, None])


def forward(q, k, v, seen, scale=None):
    """softmax(scale q kᵀ) v over what is seen, in float64; a row that sees nothing gives zeros."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    scores = np.einsum("bhtd,bhsd->bhts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = np.where(seen, scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    e = np.exp(scores - top)
    total = e.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (top + np.log(total))[..., 0]
    return np.einsum("bhts,bhsd->bhtd", np.divide(e, total, out=np.zeros_like(e), where=total > 0), v), lse


def make(shape, dtype=np.float64, seed=0, scale=1.0):
    """q, k, v and dy for (B, H, Hkv, T, S, D, Dv)."""
    b, h, hkv, t, s, d, dv = shape
    rng = np.random.default_rng(seed)
    return tuple(
        (scale * rng.standard_normal(dims)).astype(dtype)
        for dims in ((b, h, t, d), (b, hkv, s, d), (b, hkv, s, dv), (b, h, t, dv))
    )


def relative(got, want):
    return float(np.linalg.norm(np.asarray(got, np.float64) - want) / max(np.linalg.norm(want), 1e-300))
