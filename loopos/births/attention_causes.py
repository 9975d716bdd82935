"""Causes inside attention, whose scores and probabilities are not kept: recomputed for the one element in question.

The operands are those of ``attention_operands`` in cpp/ops/attention_trace.h, one for each pair of a query and a key.
It is the core that makes the probabilities and that knows which keys a query sees: nothing here does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .arithmetic import Evidence, Numbers, short, summary


def attention(found: Mapping[str, Any], n: Numbers) -> Evidence:
    if "probability" not in n:
        return _score(n)
    if n["probability"].size == 0:  # a key that no query sees
        return n.total("probability")
    for other in ("k", "q"):  # of a score's gradient: dq has the keys' numbers, dk the queries'
        if other in n:
            return _gradient(n, other)
    return n.dot(("probability", n["probability"] * _dropped(n)), "dy" if "dy" in n else "v")  # dv, or y


def _score(n: Numbers) -> Evidence:
    evidence, scale, product = n.dot("q", "k"), np.longdouble(n.number("scale")), n["q"] @ n["k"]
    if evidence.kind == "unknown" and abs(product * scale) > n.limit:
        return n.product({"q times k": product, "scale": scale})
    return evidence


def _dropped(n: Numbers) -> Any:
    return n["dropped"] if "dropped" in n else np.longdouble(1)


def _gradient(n: Numbers, other: str) -> Evidence:
    """dq or dk: the sum over pairs of dscore times the other side's number."""
    width = int(n.number("value_width"))
    dy, v, y = (n[name].reshape(-1, width) for name in ("dy", "v", "y"))
    p, products, kept = n["probability"], dy * v, dy * y
    dp, delta = products.sum(axis=1) * _dropped(n), np.broadcast_to(kept.sum(axis=1), p.shape)
    beyond = (np.abs(dp) > n.limit) | (np.abs(products) > n.limit).any(axis=1)
    if beyond.any():
        at = int(np.argmax(beyond))
        row, values = (np.broadcast_to(x, products.shape)[at] for x in (dy, v))
        return _overflow_of_dp(n, row, values, float(p[at]), dp[at], delta[at])
    evidence = n.dot(("dscore", p * (dp - delta) * np.longdouble(n.number("scale"))), other)
    if evidence.kind != "unknown":
        return evidence
    largest = np.abs(products).sum(axis=1) * _dropped(n)
    magnitude = (p * (largest + np.abs(kept).sum(axis=1))).max()
    if rounded := n.rounding("dscore", magnitude, other, max(n[other], key=abs)):
        return rounded
    if (largest > n.limit).any():
        at = int(np.argmax(largest))
        row, values = (np.broadcast_to(x, products.shape)[at] for x in (dy, v))
        return _overflow_of_dp(n, row, values, float(p[at]), largest[at], delta[at], "adds up numbers of")
    return evidence


def _overflow_of_dp(
    n: Numbers, row: np.ndarray, v: np.ndarray, p: float, dp: Any, delta: Any, is_: str = "is"
) -> Evidence:
    """dp: of a probability, or where that is finite in the end, what its terms come to in magnitude."""
    products = row * v
    at = int(np.argmax(np.abs(products)))
    operands = {"dy": summary(row, at), "v": summary(v, at), "probability": p}
    said = f"the gradient of a probability, dy times v, {is_} {short(dp)} ({n.beyond()})"
    if p < n.tiny:
        return Evidence("0*inf", f"{said}, and the probability itself is 0", operands)
    if abs(delta) > n.limit:
        return Evidence("inf - inf", f"{said}, and so is what is subtracted from it, {short(delta)}", operands)
    kind = "product overflow" if abs(products[at]) > n.limit else "sum overflow"
    return Evidence(kind, said, operands)
