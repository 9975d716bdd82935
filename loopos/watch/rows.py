"""Which numbers of its operands one element of an operation's output is made of, by kind of operation.

Each function takes (operands by name, output, index, number of the output) and gives (kind, operands of the element),
as :class:`loopos.watch.elements.Found` has them, or None where it does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Picked = tuple[str, dict[str, Any]]
Index = tuple[int, ...]


def row(tensor: torch.Tensor) -> np.ndarray:
    """Its numbers in float64 (complex128 of a complex one), flat."""
    flat = tensor.detach().reshape(-1).resolve_conj()
    return flat.to(torch.complex128 if flat.is_complex() else torch.float64).cpu().numpy()


def _product(a: torch.Tensor, b: torch.Tensor, index: Index, names: tuple[str, str], **plus: Any) -> Picked:
    """Of a (..., M, K) times b (..., K, N)."""
    *batch, m, n = index
    return "dot", {names[0]: row(a[(*batch, m)]), names[1]: row(b[(*batch, slice(None), n)]), **plus}


def _mm(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    second = "mat2" if "mat2" in given else "other"
    return _product(given["self"], given[second], index, ("self", second))


def _addmm(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    first, second = ("mat1", "mat2") if "mat1" in given else ("batch1", "batch2")
    bias = float(given["self"].broadcast_to(output.shape)[index]) * float(given.get("beta", 1))
    kind, found = _product(given[first], given[second], index, (first, second), plus=bias)
    alpha = float(given.get("alpha", 1))
    return kind, found | ({first: found[first] * alpha} if alpha != 1 else {})


def _linear(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    x, weight, bias = given.get("input", given.get("self")), given["weight"], given.get("bias")
    plus = {} if bias is None else {"plus": float(bias[index[-1]])}
    return "dot", {"input": row(x[index[:-1]]), "weight": row(weight[index[-1]]), **plus}


def _mv(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    return "dot", {"self": row(given["self"][index]), "vec": row(given["vec"])}


def _dot(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    other = "tensor" if "tensor" in given else "other"
    return "dot", {"self": row(given["self"]), other: row(given[other])}


def _reduced(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    """The numbers of ``self`` that one element of a reduction is over."""
    x, dims = given["self"], given.get("dim")
    if dims is None or dims == []:
        return "row", {"self": row(x)}
    dims = sorted({dim % x.ndim for dim in (dims if isinstance(dims, (list, tuple)) else [dims])})
    kept = list(index)
    if not given.get("keepdim", False) and len(kept) != x.ndim:
        for dim in dims:
            kept.insert(dim, 0)
    at = tuple(slice(None) if dim in dims else kept[dim] for dim in range(x.ndim))
    return "row", {"self": row(x[at])}


def _along(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    """The row of a softmax, a cumulative sum and their kin: the output has the shape of the input."""
    found = {}
    dim = given.get("dim", -1)
    for name, x in given.items():
        if isinstance(x, torch.Tensor) and x.shape == output.shape and x.is_floating_point():
            found[name] = row(x[tuple(slice(None) if d == dim % x.ndim else at for d, at in enumerate(index))])
    return "row", found


def _normed(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    """Of layer norm: the row of x, and weight and bias at the element."""
    x = given.get("input", given.get("self"))
    width = len(given["normalized_shape"])
    lead = index[: x.ndim - width]
    found: dict[str, Any] = {"input": row(x[lead])}
    if number in (0, None):
        inner = index[x.ndim - width :]
        for name in ("weight", "bias"):
            if given.get(name) is not None:
                found[name] = float(given[name][inner])
        found["channel"] = float(torch.tensor(inner).dot(torch.tensor(_strides(given["normalized_shape"]))))
    return "norm", found


def _strides(shape: list[int]) -> list[int]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return strides


def _batch_normed(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked | None:
    """Of batch norm in evaluation mode: the element of x, and what its channel has."""
    if given.get("training") or number not in (0, None):
        return None
    names = ("running_mean", "running_var", "weight", "bias")
    held = {name: float(given[name][index[1]]) for name in names if given.get(name) is not None}
    return "norm", {"x": float(given["input"][index]), **held}


def _ctc(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked | None:
    """How many labels the target of a sample has, how many frames they need (one between two that are equal), and how
    many there are."""
    at = index[0] if index else 0
    frames, lengths = ([int(each) for each in given[name]] for name in ("input_lengths", "target_lengths"))
    targets = given["targets"]
    labels = targets[at, : lengths[at]] if targets.ndim == 2 else targets[sum(lengths[:at]) :][: lengths[at]]
    needed = len(labels) + int((labels[1:] == labels[:-1]).sum())
    return "whole", {"labels": float(len(labels)), "needed": float(needed), "frames": float(frames[at])}


def _conv(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked | None:
    """The patch under one output, and the kernel of its channel."""
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    if given.get("transposed") or x.ndim != weight.ndim:
        return None
    spatial = x.ndim - 2
    stride, padding, dilation = ([*given[name]] * spatial for name in ("stride", "padding", "dilation"))
    batch, channel, *place = index
    per_group = weight.shape[1]
    first = channel // (weight.shape[0] // given.get("groups", 1)) * per_group
    padded = torch.nn.functional.pad(
        x[batch, first : first + per_group], [p for p in padding[:spatial][::-1] for _ in (0, 1)]
    )
    at = tuple(
        slice(o * s, o * s + d * (k - 1) + 1, d)
        for o, s, d, k in zip(place, stride, dilation, weight.shape[2:], strict=False)
    )
    plus = {} if bias is None else {"plus": float(bias[channel])}
    return "dot", {"input": row(padded[(slice(None), *at)]), "weight": row(weight[channel]), **plus}


def _nll(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    """The log-probabilities of the targets that are scored."""
    logs, target = given["self"], given["target"]
    if logs.ndim != 2:
        return "row", {"self": row(logs)}
    counted = target != given.get("ignore_index", -100)
    scored = logs[counted].gather(1, target[counted].clamp_min(0)[:, None])
    if number in (0, None) and given.get("reduction") == 0:
        return "row", {"self": row(logs[index])}
    return "row", {"log-probability of the target": row(scored), "count": float(counted.sum())}


def _embedding_backward(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked:
    gradient, ids = given["grad_output"], given["indices"]
    return "row", {"grad_output": row(gradient.reshape(-1, gradient.shape[-1])[ids.reshape(-1) == index[0], index[1]])}


ROWS: dict[str, Callable[..., Picked | None]] = {
    **dict.fromkeys(("mm", "bmm"), _mm),
    **dict.fromkeys(("addmm", "baddbmm", "addmm_"), _addmm),
    **dict.fromkeys(("linear", "mkldnn_linear"), _linear),
    "mv": _mv,
    **dict.fromkeys(("dot", "vdot"), _dot),
    **dict.fromkeys(
        ("sum", "mean", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm", "prod", "logsumexp",
         "nansum", "amax", "max"),
        _reduced,
    ),
    **dict.fromkeys(
        ("_softmax", "_log_softmax", "_safe_softmax", "_softmax_backward_data", "_log_softmax_backward_data", "cumsum",
         "cumprod", "logcumsumexp", "_logcumsumexp"),
        _along,
    ),
    "native_layer_norm": _normed,
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update"), _batch_normed
    ),
    "_ctc_loss": _ctc,
    "convolution": _conv,
    **dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward", "nll_loss"), _nll),
    "embedding_dense_backward": _embedding_backward,
}  # fmt: skip
