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


def _scaled(given: dict[str, Any], channel: int, at: Index, shape: tuple[int, ...]) -> dict[str, float]:
    """Where the element is in what is normed together, and the weight and bias of its channel."""
    held = {name: float(given[name][channel]) for name in ("weight", "bias") if given.get(name) is not None}
    return {**held, "channel": float(np.ravel_multi_index(at, tuple(shape)))}


def _group_normed(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked | None:
    """Of group norm: the group of x."""
    x, wide = given["input"], given["C"] // given["group"]
    group = index[1] // wide if number in (0, None) else index[1]
    together = x[index[0], group * wide : (group + 1) * wide]
    at = (index[1] % wide, *index[2:]) if number in (0, None) else (0,) * together.ndim
    return "norm", {"input": row(together), **_scaled(given, group * wide + at[0], at, together.shape)}


def _weight_normed(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked | None:
    v, g, dim = given["v"], given["g"], given.get("dim", 0)
    at = index[dim]
    found = {"v": row(v.select(dim, at)), "g": float(g.reshape(-1)[at])}
    return "row", found | ({"v at the element": float(v[index])} if number in (0, None) else {})


def _index_added(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked | None:
    """What was there, and all that index_add adds to it."""
    dim = given["dim"] % output.ndim
    lines = given["source"][tuple(slice(None) if d == dim else at for d, at in enumerate(index))]
    added = lines[given["index"].reshape(-1) == index[dim]] * float(given.get("alpha", 1))
    return "row", {"self": np.append(row(given["self"][index]), row(added))}


def _scattered(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked | None:
    dim = given["dim"] % output.ndim
    line = tuple(slice(None) if d == dim else at for d, at in enumerate(index))
    ids = given["index"][line]
    added = given["src"][line][: len(ids)][ids == index[dim]]
    return "row", {"self": np.append(row(given["self"][index]), row(added))}


def _batch_normed(given: dict[str, Any], output: torch.Tensor, index: Index, number: int | None) -> Picked | None:
    """Of batch norm: in evaluation mode the element of x, and what its channel has; in training the channel."""
    x, first = given["input"], number in (0, None)
    if given.get("training"):
        channel = index[1] if first else index[0]
        at = index[:1] + index[2:] if first else (0,) * (x.ndim - 1)
        return "norm", {"input": row(x[:, channel]), **_scaled(given, channel, at, x[:, channel].shape)}
    if not first:
        return None
    names = ("running_mean", "running_var", "weight", "bias")
    held = {name: float(given[name][index[1]]) for name in names if given.get(name) is not None}
    return "norm", {"x": float(x[index]), **held}


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
    logs, target, classes = given["self"], given["target"], given.get("weight")
    if number in (0, None) and given.get("reduction") == 0:
        return "row", {"self": row(logs[(index[0], slice(None), *index[1:])])}
    logs = logs[None] if logs.ndim == 1 else logs
    logs, target = logs.movedim(1, -1).reshape(-1, logs.shape[1]), target.reshape(-1)
    counted = target != given.get("ignore_index", -100)
    labels = target[counted].clamp_min(0)
    scored = logs[counted].gather(1, labels[:, None])
    weights = {} if classes is None else {"weight": row(classes[labels])}
    return "row", {"log-probability of the target": row(scored), "count": float(counted.sum()), **weights}


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
         "nansum", "amax", "max", "amin", "min"),
        _reduced,
    ),
    **dict.fromkeys(
        ("_softmax", "_log_softmax", "_safe_softmax", "_softmax_backward_data", "_log_softmax_backward_data", "cumsum",
         "cumprod", "logcumsumexp", "_logcumsumexp"),
        _along,
    ),
    "native_layer_norm": _normed,
    "native_group_norm": _group_normed,
    "_weight_norm_interface": _weight_normed,
    **dict.fromkeys(("index_add", "index_add_"), _index_added),
    **dict.fromkeys(("scatter_add", "scatter_add_"), _scattered),
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update"), _batch_normed
    ),
    "_ctc_loss": _ctc,
    "convolution": _conv,
    **dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward", "nll_loss"), _nll),
    "embedding_dense_backward": _embedding_backward,
}  # fmt: skip
