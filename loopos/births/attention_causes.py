"""Causes inside attention, whose scores and probabilities are not kept: made again for the one element in question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .arithmetic import Evidence, Numbers, short, summary


def attention(found: Mapping[str, Any], n: Numbers) -> Evidence:
    if "qkv" not in n:
        return n.dot("q", "k")
    sequence = _Sequence(n)
    _, token, channel = (int(i) for i in found["index"])
    head, number = divmod(channel, sequence.width)
    if found["phase"] == "forward":
        return sequence.output(n, token, head, number)
    if head < sequence.heads:
        return sequence.gradient(n, [(token, key, head) for key in range(token + 1)], number, "k")
    head -= sequence.heads
    if head >= sequence.kv_heads:
        return sequence.value_gradient(n, token, head - sequence.kv_heads, number)
    pairs = [(query, token, h) for h in sequence.readers(head) for query in range(token, sequence.time)]
    return sequence.gradient(n, pairs, number, "q")


class _Sequence:
    """Queries, keys and values of one sequence, as (time, heads, width), in long double."""

    def __init__(self, n: Numbers):
        self.heads, self.kv_heads, self.width = (int(n.number(k)) for k in ("heads", "kv_heads", "head_width"))
        rows = n["qkv"].reshape(-1, self.heads + 2 * self.kv_heads, self.width)
        self.time, self.group = len(rows), self.heads // self.kv_heads
        self.q, self.k, self.v = np.split(rows, [self.heads, self.heads + self.kv_heads], axis=1)
        self.keep = 1 - float(n.number("dropout", 0.0))

    def readers(self, kv_head: int) -> range:
        return range(kv_head * self.group, (kv_head + 1) * self.group)

    def probabilities(self, query: int, head: int) -> np.ndarray:
        scores = self.k[: query + 1, head // self.group] @ self.q[query, head] / np.sqrt(np.longdouble(self.width))
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()

    def output(self, n: Numbers, query: int, head: int, number: int) -> Evidence:
        values = self.v[: query + 1, head // self.group, number]
        return n.dot(("probability", self.probabilities(query, head) / self.keep), ("v", values))

    def value_gradient(self, n: Numbers, key: int, kv_head: int, number: int) -> Evidence:
        dy = n["dy"].reshape(self.time, self.heads, self.width)
        pairs = [(query, h) for h in self.readers(kv_head) for query in range(key, self.time)]
        chances = np.array([self.probabilities(query, h)[key] for query, h in pairs], np.longdouble)
        return n.dot(("probability", chances / self.keep), ("dy", np.array([dy[q, h, number] for q, h in pairs])))

    def gradient(self, n: Numbers, pairs: list[tuple[int, int, int]], number: int, other: str) -> Evidence:
        """dq or dk: the sum over (query, key, head) of dscore times the other side's number."""
        shape = (self.time, self.heads, self.width)
        dy, y = n["dy"].reshape(shape), n["y"].reshape(shape)
        dscores, magnitude = [], np.longdouble(0)
        for query, key, head in pairs:
            p = self.probabilities(query, head)[key]
            row, v = dy[query, head], self.v[key, head // self.group]
            dp, delta = row @ v / self.keep, row @ y[query, head]
            if abs(dp) > n.limit or np.abs(row * v).max() > n.limit:
                return self._overflow_of_dp(n, row, v, float(p), dp, delta)
            dscores.append(p * (dp - delta) / np.sqrt(np.longdouble(self.width)))
            magnitude = max(magnitude, p * (np.abs(row * v).sum() / self.keep + np.abs(row * y[query, head]).sum()))
        side = self.k[:, :, number] if other == "k" else self.q[:, :, number]
        numbers = [side[key, h // self.group] if other == "k" else side[query, h] for query, key, h in pairs]
        evidence = n.dot(("dscore", np.array(dscores, np.longdouble)), (other, np.array(numbers, np.longdouble)))
        if evidence.kind == "unknown":
            return n.rounding("dscore", magnitude, other, max(numbers, key=abs)) or evidence
        return evidence

    def _overflow_of_dp(self, n: Numbers, row: np.ndarray, v: np.ndarray, p: float, dp: Any, delta: Any) -> Evidence:
        products = row * v
        at = int(np.argmax(np.abs(products)))
        operands = {"dy": summary(row, at), "v": summary(v, at), "probability": p}
        said = f"the gradient of a probability, dy times v, is {short(dp)} ({n.beyond()})"
        if p < n.tiny:
            return Evidence("0*inf", f"{said}, and the probability itself is 0", operands)
        if abs(delta) > n.limit:
            return Evidence("inf - inf", f"{said}, and so is what is subtracted from it, {short(delta)}", operands)
        kind = "product overflow" if abs(products[at]) > n.limit else "sum overflow"
        return Evidence(kind, said, operands)
