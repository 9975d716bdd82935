"""What losses of torch.nn.functional are given: logits, probabilities or their logs, told apart by their numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

LOGS = {"nll_loss": 1, "ctc_loss": -1, "kl_div": -1}  # the dimension of the classes, of losses that take logs
LOGITS = {"cross_entropy": 1}
LIKELY = {"binary_cross_entropy_with_logits"}
TAKES = {*LOGS, *LOGITS, *LIKELY}
NEAR = 1e-3  # of sums that should be 1
_VIEWS = ("Squeeze", "Unsqueeze", "View", "Reshape", "Select", "Slice", "Expand", "ToCopy", "Permute", "T")


class Wrong(NamedTuple):
    """loss: its name; given, wanted: in words; sure: it cannot be meant."""

    loss: str
    given: str
    wanted: str
    sure: bool


def judged(name: str, given: Any) -> Wrong | None:
    """name: one of TAKES; given: its first argument."""
    import torch

    if not isinstance(given, torch.Tensor) or not given.is_floating_point() or not given.numel():
        return None
    if name in LIKELY:
        return Wrong(name, "the output of a sigmoid", "logits", True) if _made_by(given, "Sigmoid") else None
    dim = LOGS.get(name, LOGITS.get(name, -1))
    dim = dim if given.ndim > 1 else 0
    if given.shape[dim] < 2:
        return None
    numbers = given.detach().double()
    if _sums_to_one(numbers, dim) or (name in LOGITS and _made_by(given, "SoftmaxBackward")):
        return Wrong(name, "probabilities (of a softmax)", "logits" if name in LOGITS else "log-probabilities", True)
    if name not in ("nll_loss", "ctc_loss"):
        return None
    total = numbers.logsumexp(dim).exp()
    total = total[total.isfinite() & (total > 0)]
    if total.numel() and bool(((total - 1).abs() > 0.05).all()):
        said = f"numbers whose exp sums to {float(total.reshape(-1)[0]):.3g} in a row"
        return Wrong(name, said, "log-probabilities (log_softmax)", False)
    return None


def _sums_to_one(numbers: Any, dim: int) -> bool:
    return bool(numbers.min() >= 0) and bool((numbers.sum(dim) - 1).abs().max() < NEAR)


def _made_by(tensor: Any, name: str) -> bool:
    """Whether an operation made it, views of its output left out."""
    node = tensor.grad_fn
    for _ in range(8):
        if node is None:
            return False
        if node.name().startswith(name):
            return True
        if not node.name().startswith(_VIEWS) or len(node.next_functions) != 1:
            return False
        node = node.next_functions[0][0]
    return False


def spreads(one: Any, two: Any) -> bool:
    """Of a difference or a product by hand: whether it sets (N, 1) against (N,), one of the model and one of the data,
    so that every row meets every other."""
    wide, flat = (one, two) if one.ndim > two.ndim else (two, one)
    if wide.ndim != flat.ndim + 1 or wide.shape[:-1] != flat.shape or wide.shape[-1] != 1 or flat.numel() < 2:
        return False
    return wide.requires_grad != flat.requires_grad
