"""How a number that is not finite came about: from the operands of the operation that gave it, recomputed without
the limits of its dtype.

A class of ``loopos.errors.CAUSES`` is claimed only when the operands bear it out. "unknown" says what the exact result
would have been: then the operation did not compute what it was given (a planted fault, memory, the processor).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from loopos.choices import FUNCTIONS, ROWS

from .advice import advice
from .arithmetic import Evidence, Numbers, short
from .attention_causes import attention
from .growth import Explosion
from .update_causes import update

_OVERFLOWS = {"product overflow", "sum overflow", "inf - inf", "0*inf"}


class Diagnosis(NamedTuple):
    """cause: "class: words"; operands: as Birth.operands has them; advice: what to do next."""

    cause: str
    operands: Mapping[str, Any]
    advice: str


def diagnose(found: Mapping[str, Any], exploded: Explosion | None = None) -> Diagnosis:
    """What is known of the birth ``found`` (phase, op, tensor, index, value, and the core's operands and dtype).

    exploded: a matrix whose weights are beyond what training leaves, and what the run's record says of it."""
    op, operands = found["op"], found.get("operands", {})
    numbers = Numbers(operands, found.get("dtype", "float64"), float(found["value"]))
    updating = found["phase"] == "update"
    evidence = update(found, operands) if updating else _OPS.get(op, _by_operands)(found, numbers)
    kind, words = evidence.kind, evidence.words
    if exploded is not None and kind in _OVERFLOWS:
        if exploded.kind is None:
            words = f"{words}. Besides, {exploded.words}"
        else:
            words = f"{exploded.words}; here the {kind} that followed: {words}"
            kind = exploded.kind
    return Diagnosis(f"{kind}: {words}", evidence.operands, advice(kind, op, found["tensor"]))


def _parameter(found: Mapping[str, Any], n: Numbers) -> Evidence:
    return Evidence("weight not finite", "it was set, loaded or updated so before this step", {})


def _gradient(found: Mapping[str, Any], n: Numbers) -> Evidence:
    return Evidence("input not finite", "the gradient handed to the optimizer is not finite", {})


def _by_operands(found: Mapping[str, Any], n: Numbers) -> Evidence:
    """Products and sums, by what went into them."""
    names = [name for name in ("dy", "x", "q", "weight", "k") if name in n]
    if len(names) == 2:
        return n.dot(*names, plus="bias")
    if names == ["dy"]:
        return n.total("dy")
    return n.unknown("its operands are no longer held")


def _low_rank(found: Mapping[str, Any], n: Numbers) -> Evidence:
    """Of scale (x A^T) and its gradient; the rest are products."""
    scale = n.number("low_rank_scale")
    evidence = _by_operands(found, n)
    if scale is None or evidence.kind != "unknown":
        return evidence
    other = "x" if "x" in n else "dy"
    return n.dot(other, ("scale times weight", n["weight"] * np.longdouble(scale)))


def _dora(found: Mapping[str, Any], n: Numbers) -> Evidence:
    if "norm" in n:
        if n["norm"][0] == 0:
            kind = "0/0" if n["magnitude"][0] == 0 else "product overflow"
            words = "a row of W + scale B A has only zeros, so it has no direction to give a length to"
            return Evidence(kind, words, {"magnitude": float(n["magnitude"][0]), "length of the row": 0.0})
        return n.product({"magnitude": n["magnitude"][0], "1 / length of the row": 1 / n["norm"][0]})
    if "gain" not in n:
        return n.total("dy")
    first = "z" if "z" in n else "dy"
    evidence = n.product({first: n[first][0], "gain": n["gain"][0]}, plus="bias")
    if evidence.kind != "unknown" or "residual" not in n:
        return evidence
    scaled = n["z"][0] * n["gain"][0] + (n["bias"][0] if "bias" in n else 0)
    return n.addition({"the scaled row": scaled, "residual": n["residual"][0]}, scaled + n["residual"][0])


def _norm(found: Mapping[str, Any], n: Numbers) -> Evidence:
    if "rstd" not in n:
        return _by_operands(found, n)
    mean, rstd = n["mean"] if "mean" in n else np.longdouble(0), n["rstd"]
    normed = (n["x"] - mean) * rstd
    if found["phase"] == "forward":
        return n.product({"normed x": normed[int(n.number("channel"))], "weight": n["weight"][0]}, plus="bias")
    if found["tensor"].endswith(".weight"):
        return n.dot("dy", ("normed x", normed))
    gradient = n["dy"] * n["weight"]
    at = int(n.number("channel"))
    worst = int(np.argmax(np.abs(gradient)))
    if abs(gradient[worst]) > n.limit:
        return n.product({"dy": n["dy"][worst], "weight": n["weight"][worst]})
    parts = {"dy times weight": gradient[at], "the share along normed x": normed[at] * np.mean(gradient * normed)}
    if found["op"] == "layer_norm":
        parts["the mean over the row"] = np.mean(gradient)
    centred = gradient[at] - sum(list(parts.values())[1:])
    factors = {"centred dy times weight": centred, "1 / deviation of the row": rstd[0]}
    evidence = n.product(factors, plus="dskip")
    if evidence.kind == "unknown" and sum(abs(part) for part in parts.values()) > n.limit:
        said = ", less ".join(f"{name} {short(part)}" for name, part in parts.items())
        words = f"{said}: together they are {n.beyond()}, before 1 / deviation makes them small again"
        return Evidence("sum overflow", words, {name: float(part) for name, part in parts.items()})
    if evidence.kind == "unknown":
        names = list(factors)
        evidence = n.rounding(names[0], np.abs(gradient).max(), names[1], rstd[0]) or evidence
    return _by_eps(evidence, np.mean((n["x"] - mean) ** 2), n)


def _by_eps(evidence: Evidence, variance: Any, n: Numbers) -> Evidence:
    """A product with 1 / deviation overflowed where it was eps that set the deviation: the row holds no signal."""
    eps = n.number("eps")
    if evidence.kind != "product overflow" or eps is None or variance >= eps:
        return evidence
    words = f"the variance of the row is {short(variance)}, so it is eps {short(eps)} that sets 1 / deviation"
    operands = evidence.operands | {"variance": float(variance), "eps": float(eps)}
    return Evidence("eps floor active", f"{words}; {evidence.words}", operands)


def _add(found: Mapping[str, Any], n: Numbers) -> Evidence:
    names = ("token", "position") if "token" in n else ("x", "branch")
    keep, scale = 1 - float(n.number("dropout", 0.0)), np.longdouble(n.number("embedding_scale", 1.0))
    parts = {name: n[name][0] for name in names if name in n}
    if scale != 1:
        parts["token times embedding scale"] = parts.pop("token") * scale
        if abs(parts["token times embedding scale"]) > n.limit:
            return n.product({"token": n["token"][0], "embedding scale": scale})
    dropped = "branch" if names[0] == "x" else None
    scaled = {name: value / keep if dropped in (None, name) else value for name, value in parts.items()}
    for name, value in scaled.items():
        if abs(value) > n.limit:
            return n.product({name: parts[name], "1 / (1 - dropout)": np.longdouble(1 / keep)})
    return n.addition(parts, sum(scaled.values()))


def _rope(found: Mapping[str, Any], n: Numbers) -> Evidence:
    row, width = n["x"], int(n.number("rotary_width"))
    at, half = int(found["index"][-1]) % len(row), width // 2
    if at >= width:
        return n.unknown("this element passes through unturned")
    at %= half
    pair = {"first of the pair": row[at], "second": row[at + half]}
    reach = np.hypot(*pair.values()) * np.longdouble(n.number("factor"))
    return n.addition(pair, reach, "turned by an angle they reach up to")


def _activation(found: Mapping[str, Any], n: Numbers) -> Evidence:
    row = next(row for row in ROWS.values() if row.op == found["op"])
    function = FUNCTIONS[row.f]
    if row.gated:
        return _gated(found, n, row.f, *function.of(n["gate"][0]))
    x = n["x"][0]
    if found["phase"] == "forward":
        if function.squared:
            return n.product([("x", x), ("x", x)])
        return n.addition({"x": x}, x, "the exact result is at most")
    dy = {"dy": n["dy"][0]}
    if function.steepest is None:
        return n.product({**dy, f"slope of {row.f}": function.of(x)[1]})
    return n.product({**dy, "slope (at most)": np.longdouble(function.steepest)})


def _gated(found: Mapping[str, Any], n: Numbers, name: str, value: Any, slope: Any) -> Evidence:
    """Of f(gate) times up, with f and its slope at the gate."""
    up, at_gate = n["up"][0], f"{name}(gate)"
    if found["phase"] == "forward":
        return n.product({at_gate: value, "up": up})
    dy = n["dy"][0]
    if found["index"][-1] >= n.number("hidden", math.inf):
        return n.product({"dy": dy, at_gate: value})
    said = f"slope of {name}"
    if abs(dy * up) > n.limit and abs(slope) < n.tiny:
        factors = {"dy": float(dy), "up": float(up), said: float(slope)}
        return Evidence("0*inf", f"a slope of {short(slope)} times dy times up, which is {short(dy * up)}", factors)
    return n.product({"dy": dy, "up": up, said: slope})


def _modulate(found: Mapping[str, Any], n: Numbers) -> Evidence:
    """x by its gate and d by its scale; backward, dy by one of them."""
    gate, scale = np.longdouble(n.number("gate", 1.0)), np.longdouble(n.number("additive_scale", 1.0))
    if found["phase"] == "backward":
        dy = {"dy": n["dy"][0]}
        if found["tensor"].endswith(".dz"):
            return n.product({**dy, "slope of the gate": np.longdouble(n.number("gate_slope", 0.0)), "x": n["x"][0]})
        if found["tensor"].endswith(".dd"):
            return n.product({**dy, "additive_scale": scale})
        return n.product({**dy, "gate": gate})
    x, d = n["x"][0], n["d"][0]
    for factors in ({"x": x, "gate": gate}, {"d": d, "additive_scale": scale}):
        if abs(np.prod(np.array(list(factors.values()), np.longdouble))) > n.limit:
            return n.product(factors)
    parts = {"x times gate": x * gate, "d times additive_scale": d * scale}
    return n.addition(parts, sum(parts.values()))


def _cross_entropy(found: Mapping[str, Any], n: Numbers) -> Evidence:
    if found["phase"] == "backward":
        return n.product(
            {"scale of the loss": np.longdouble(n.number("scale", 1.0)), "p - 1 (at most)": np.longdouble(1)}
        )
    if "logits" not in n:  # the sum over tokens and micro-batches
        words = "the loss of every token is finite, and so is that of each micro-batch, but not their sum"
        return Evidence("sum overflow", words, {})
    logits, target = n["logits"], int(n.number("target", 0))
    top = logits.max()
    log_sum = top + np.log(np.exp(logits - top).sum())
    parts = {"log-sum-exp of the logits": log_sum, "logit of the target": logits[target]}
    return n.addition(parts, log_sum - logits[target], "their difference is", limit=np.finfo(np.float64).max)


def _accumulate(found: Mapping[str, Any], n: Numbers) -> Evidence:
    if math.isnan(found["value"]):  # which a sum of finite numbers is only where it has left the range both ways
        words = (
            "the gradients of the micro-batches are finite when they are computed again, and their sum was NaN: it was "
            "too large in both directions, or something else wrote into the gradients before the update"
        )
        return Evidence("unknown", words, {})
    words = "the gradients of the micro-batches are finite, their sum is too large for the dtype"
    return Evidence("sum overflow", words, {})


def _global_norm(found: Mapping[str, Any], n: Numbers) -> Evidence:
    words = "every gradient is finite, the root of the sum of their squares is not"
    return Evidence("norm overflow", words, {})


_OPS = {
    "parameter": _parameter,
    "gradient": _gradient,
    "rms_norm": _norm,
    "layer_norm": _norm,
    "add": _add,
    "rope": _rope,
    **{row.op: _activation for row in ROWS.values()},
    "modulate": _modulate,
    "cross_entropy": _cross_entropy,
    "accumulate": _accumulate,
    "global_norm": _global_norm,
    "attention": attention,
    "low_rank": _low_rank,
    "dora": _dora,
}


def _embedding(found: Mapping[str, Any], n: Numbers) -> Evidence:
    if found["phase"] == "forward":
        return _add(found, n)
    scale = n.number("embedding_scale", 1.0)
    if scale == 1 or n["dy"].size == 0:
        return n.total("dy")
    return n.dot("dy", ("embedding scale", np.full_like(n["dy"], scale)))


_OPS["embedding"] = _embedding


def place(found: Mapping[str, Any]) -> str:
    """The index in words."""
    index, tensor, operands = found["index"], found["tensor"], found.get("operands", {})
    if not index:
        return ""
    if tensor.endswith(".scores"):
        names = ("row", "head", "query token", "key token")
    elif tensor in ("logits", "dlogits"):
        names = ("row", "token", "vocabulary entry")
    elif len(index) == 3 or tensor == "loss":
        names = ("row", "token", "channel")
    elif tensor in ("tok_embed.weight", "pos_embed.weight", "lm_head.weight"):
        names = ("position" if tensor[0] == "p" else "vocabulary entry", "channel")
    else:
        names = ("output", "input") if len(index) == 2 else ("channel",) if len(index) == 1 else ()
    words = [f"{name} {at}" for name, at in zip(names, index, strict=False)]
    if "head_width" in operands and len(index) == 3:
        words[-1] += f" ({_head(int(index[-1]), operands)})"
    return ", ".join(words)


def _head(channel: int, operands: Mapping[str, Any]) -> str:
    head, number = divmod(channel, int(operands["head_width"]))
    for name, count in (
        ("q", int(operands["heads"])),
        ("k", int(operands["kv_heads"])),
        ("v", int(operands["kv_heads"])),
    ):
        if head < count:
            return f"head {head} of {name}, number {number}"
        head -= count
    return f"number {number}"
