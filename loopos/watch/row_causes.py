"""Causes of operations that make one element of many numbers: sums, norms, softmax, losses, and whole matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from loopos.births.arithmetic import Evidence, short

from .operands import Operands

_SOFTMAX = {"_softmax", "_log_softmax", "_safe_softmax", "logsumexp", "logcumsumexp"}
_MATRIX = {"cholesky", "eig", "eigh", "eigvals", "inv", "inverse", "solve", "lu", "ldl", "triangular", "lstsq"}
_LINEAR = ("_fft_", "avg_pool", "_adaptive_avg_pool", "upsample_", "index_add", "scatter_", "index_put", "_index_put",
           "col2im", "_embedding_bag", "lerp", "hypot", "cumsum")  # fmt: skip
_EXP_WITHIN = {"soft_margin_loss"}  # whose operands are not taken apart


def _softmax(c: Operands) -> Evidence:
    row = c.row()
    if row is None:
        return by_whole(c)
    _, values = row
    count = len(values)
    if count and (values == -math.inf).all():
        return Evidence("all-masked row", f"all {count} numbers of the row are -inf: nothing is left to weigh", {})
    if (values == math.inf).any():
        return Evidence(
            "inf - inf", f"the row has +inf at {int(np.argmax(values))}, from which the maximum is taken", {}
        )
    return _total(c)


def _total(c: Operands) -> Evidence:
    """Sums and means: the sum of a row."""
    row = c.row()
    if row is None:
        return by_whole(c)
    name, values = row
    if not len(values):
        return Evidence("0/0", f"{c.op} of no number at all is 0/0", {})
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        kind = "inf - inf" if math.isnan(c.found.value) and not np.isnan(values).any() else "input not finite"
        return Evidence(kind, f"number {at} of {len(values)} is {values[at]}", {})
    return c.n.total(name)


def _variance(c: Operands) -> Evidence:
    row = c.row()
    if row is None:
        return by_whole(c)
    _, values = row
    correction = c.scalar("correction")
    correction = 1.0 if correction is None else correction
    if len(values) <= correction:
        words = f"{c.op} of {len(values)} number(s) divides by {max(0, len(values) - int(correction))}"
        return Evidence("0/0", words, {"count": float(len(values))})
    return _squares(c)


def _squares(c: Operands) -> Evidence:
    """Norms, and what has a variance in it."""
    name, values = c.row() or ("", np.zeros(0))
    if not len(values):
        return by_whole(c)
    at = int(np.argmax(np.abs(values)))
    top = np.longdouble(values[at])
    order = c.scalar("ord", "p") if c.op in ("linalg_vector_norm", "norm") else None
    order = 2.0 if order is None else order
    centre = np.longdouble(0) if "norm" in c.op else np.mean(values.astype(np.longdouble))
    named = "squares" if order == 2 else f"powers to {order:g}"
    words = f"the {named} of {len(values)} numbers of up to {short(abs(top))}"
    if abs(top - centre) ** order > c.n.limit:
        return Evidence("product overflow", f"{words}: one alone is {c.n.beyond()}", {name: float(top)})
    return Evidence("sum overflow", f"{words} are in sum {c.n.beyond()}", {name: float(top)})


def _prod(c: Operands) -> Evidence:
    _, values = c.row() or ("", np.zeros(0))
    at = int(np.argmax(np.abs(values))) if len(values) else 0
    words = (
        f"the product of {len(values)} numbers of up to {short(abs(values[at]))}, {c.n.beyond()}" if len(values) else ""
    )
    return Evidence("product overflow", words, {})


def _nll(c: Operands) -> Evidence:
    _, values = c.row() or ("", np.zeros(0))
    if not len(values):
        return Evidence(
            "0/0", "no label is left to score (all are ignored): the mean is over 0 of them", {"count": 0.0}
        )
    if not np.any(c.given.get("weight", 1.0)):
        return Evidence(
            "0/0",
            f"the class weights of all {len(values)} labels are 0: the mean divides by their sum",
            {"weight": 0.0},
        )
    if (values == -math.inf).any():
        at = int(np.argmin(values))
        words = f"the label at {at} of {len(values)} that are scored has the probability 0: its logit is masked"
        return Evidence("log 0", words, {})
    return _total(c)


def _norm(c: Operands) -> Evidence:
    _, values = c.row() or ("", np.zeros(0))
    if not len(values):
        return by_whole(c)
    x, eps = values.astype(np.longdouble), c.scalar("eps") or 0.0
    mean, variance = x.mean(), x.var()
    if variance > c.n.limit or np.abs(x).sum() > c.n.limit:
        return _squares(c)
    if variance + eps == 0:
        return Evidence("0/0", f"the row is constant and eps is {eps:g}: (x - mean) / 0", {"variance": float(variance)})
    normed = (x - mean) / np.sqrt(variance + eps)
    at = int(c.found.operands.get("channel", 0))
    parts = {"normed x": normed[at], "weight": np.longdouble(c.given.get("weight", 1.0))}
    return c.n.product(list(parts.items()), plus="bias" if "bias" in c.given else None)


def _batch_norm(c: Operands) -> Evidence:
    """In evaluation mode the variance is a buffer, in training that of the channel."""
    if "running_var" not in c.given:
        return _norm(c)
    x, mean, variance = (np.longdouble(c.given[name]) for name in ("x", "running_mean", "running_var"))
    eps = c.scalar("eps") or 0.0
    if variance + eps < 0:
        return c.claim("negative root", f"running_var {short(variance)} + eps {eps:g} stands under the root")
    if variance + eps == 0:
        return c.claim("0/0" if x == mean else "x/0", "running_var + eps is 0")
    parts = {"normed x": (x - mean) / np.sqrt(variance + eps), "weight": np.longdouble(c.given.get("weight", 1.0))}
    return c.n.product(list(parts.items()), plus="bias" if "bias" in c.given else None)


def _weight_normed(c: Operands) -> Evidence:
    """g v / |v| of one row."""
    _, v = c.row() or ("", np.zeros(0))
    if not len(v):
        return by_whole(c)
    if not v.any():
        return c.claim("0/0", f"all {len(v)} numbers of the row are 0: it is divided by its norm, which is 0")
    length = np.sqrt((v.astype(np.longdouble) ** 2).sum())
    if length**2 > c.n.limit:
        return _squares(c)
    parts = {"g": np.longdouble(c.given["g"]), "v": np.longdouble(c.given["v at the element"]), "1 / |v|": 1 / length}
    return c.n.product(list(parts.items()))


def _determinant(c: Operands) -> Evidence:
    if c.found.value != -math.inf:
        return by_whole(c)
    return c.claim("log 0", "the determinant is 0, the matrix singular: its log has no finite value")


def _ctc(c: Operands) -> Evidence:
    needed, frames = c.given.get("needed"), c.given.get("frames")
    if needed is None or c.found.value != math.inf:
        return by_whole(c)
    if frames < needed:
        words = f"a target of {c.given['labels']:g} labels needs {needed:g} frames of its input, which has {frames:g}"
        return c.claim("log 0", f"{words}: no alignment is possible")
    return c.claim("log 0", "every alignment of the target with its input has the probability 0")


def _extreme(c: Operands) -> Evidence:
    row, least = c.row(), c.op in ("amin", "min")
    nothing, said = (math.inf, "least") if least else (-math.inf, "greatest")
    if row is not None and len(row[1]) and (row[1] == nothing).all():
        return Evidence("all-masked row", f"all {len(row[1])} numbers of the row are {nothing}: it has no {said}", {})
    return by_whole(c)


def by_whole(c: Operands) -> Evidence:
    """Of operations whose elements are not taken apart: by how large their operands are."""
    wholes = {name: v for name, v in c.given.items() if isinstance(v, Mapping)}
    if math.isnan(c.found.value) and any(v.get("count") == 0 for v in wholes.values()):
        return Evidence("0/0", f"{c.op} of no number at all: the mean is over 0 of them", {"count": 0.0})
    return by_size(c, {name: v["value"] for name, v in wholes.items() if "value" in v})


def by_size(c: Operands, values: Mapping[str, float]) -> Evidence:
    said = ", ".join(f"{name} up to {short(abs(value))}" for name, value in values.items() if math.isfinite(value))
    words = set(c.op.split("_"))
    if words & _MATRIX:
        return Evidence("x/0", f"the matrix is singular, or nearly so: {said}", c.shown)
    sizes = [abs(np.longdouble(value)) for value in values.values() if math.isfinite(value)]
    largest = max(sizes, default=np.longdouble(0))
    if c.op in _EXP_WITHIN and np.exp(largest) > c.n.limit:
        return Evidence("exp overflow", f"an exp within {c.op} is beyond the largest {c.n.dtype}: {said}", c.shown)
    if sizes and np.prod(np.maximum(np.array(sizes, np.longdouble), 1)) * largest > c.n.limit:
        if c.op.startswith(_LINEAR):
            return Evidence("sum overflow", f"{said}: sums of them are {c.n.beyond()}", c.shown)
        return Evidence("product overflow", f"{said}: their products are {c.n.beyond()}", c.shown)
    if "backward" in c.op and any(value == 0 for value in values.values()):
        return Evidence("x/0", f"an operand is 0 where its gradient divides by it: {said}", c.shown)
    return Evidence("unknown", f"{c.op} of finite numbers: {said or 'none'}", c.shown)


BY_ROW: dict[str, Callable[[Operands], Evidence]] = {
    **dict.fromkeys(_SOFTMAX, _softmax),
    **dict.fromkeys(
        ("sum", "mean", "cumsum", "nansum", "embedding_dense_backward", "index_add", "scatter_add"), _total
    ),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), _variance),
    **dict.fromkeys(("linalg_vector_norm", "norm"), _squares),
    "prod": _prod,
    "cumprod": _prod,
    **dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward"), _nll),
    **dict.fromkeys(("native_layer_norm", "native_group_norm"), _norm),
    "_weight_norm_interface": _weight_normed,
    **dict.fromkeys(("_linalg_slogdet", "slogdet", "linalg_slogdet"), _determinant),
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update"), _batch_norm
    ),
    "_ctc_loss": _ctc,
    **dict.fromkeys(("amax", "max", "amin", "min"), _extreme),
}
