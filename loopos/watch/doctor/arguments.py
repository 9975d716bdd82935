"""What losses of torch.nn.functional are given: logits, probabilities or their logs, told apart by their numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

LOGS = {"nll_loss": 1, "ctc_loss": -1, "kl_div": -1}  # the dimension of the classes, of losses that take logs
LOGITS = {"cross_entropy": 1}
LIKELY = {"binary_cross_entropy_with_logits"}
SIGNED = {"cosine_embedding_loss": 2, "margin_ranking_loss": 2, "soft_margin_loss": 1, "hinge_embedding_loss": 1}
TAKES = {*LOGS, *LOGITS, *LIKELY}
NEAR = 1e-3  # of sums that should be 1
_VIEWS = ("Squeeze", "Unsqueeze", "View", "Reshape", "Select", "Slice", "Expand", "ToCopy", "Permute", "T")


class Wrong(NamedTuple):
    """loss: its name; given, wanted: in words; sure: it cannot be meant."""

    loss: str
    given: str
    wanted: str
    sure: bool


def judged(name: str, given: Any, target: Any = None, log_target: bool = False) -> Wrong | None:
    """name: one of TAKES; given: its first argument; target, log_target: of kl_div."""
    import torch

    if not isinstance(given, torch.Tensor) or not given.is_floating_point() or not given.numel():
        return None
    if name in LIKELY:
        return Wrong(name, "the output of a sigmoid", "logits", True) if made_by(given, "Sigmoid") else None
    dim = LOGS.get(name, LOGITS.get(name, -1))
    dim = dim if given.ndim > 1 else 0
    if given.shape[dim] < 2:
        return None
    numbers = given.detach().double()
    if _sums_to_one(numbers, dim) or (name in LOGITS and made_by(given, "SoftmaxBackward")):
        return Wrong(name, "probabilities (of a softmax)", "logits" if name in LOGITS else "log-probabilities", True)
    if name == "kl_div":
        return _divergence(numbers, target, log_target)
    if name not in ("nll_loss", "ctc_loss"):
        return None
    total = numbers.logsumexp(dim).exp()
    total = total[total.isfinite() & (total > 0)]
    if total.numel() and bool(((total - 1).abs() > 0.05).all()):
        said = f"numbers whose exp sums to {float(total.reshape(-1)[0]):.3g} in a row"
        return Wrong(name, said, "log-probabilities (log_softmax)", False)
    return None


def unsigned(name: str, target: Any) -> Wrong | None:
    """name: one of SIGNED, losses whose targets are 1 and -1; their place among the arguments is its value."""
    import torch

    if not isinstance(target, torch.Tensor) or target.is_complex() or not target.numel():
        return None
    if not bool((target == 0).any()) or not bool(((target == 0) | (target == 1)).all()):
        return None
    return Wrong(name, "a target of 0 and 1", "a target of -1 and 1 (2 * target - 1)", True)


def _divergence(given: Any, target: Any, log_target: bool) -> Wrong | None:
    """Of kl_div, whose two arguments may be densities, or parts of a row: nothing is said of what may be meant."""
    import torch

    if not isinstance(target, torch.Tensor) or not target.is_floating_point() or target.shape != given.shape:
        return None
    target, name = target.detach().double(), "kl_div"
    if not log_target and float(target.min()) < -NEAR:
        logs = bool(_dims_of_one(target.exp()))
        said = "log-probabilities as its target" if logs else f"a target with numbers down to {float(target.min()):.3g}"
        return Wrong(name, said, "probabilities as its target (or log_target=True)", logs)
    if log_target and _dims_of_one(target):
        return Wrong(name, "probabilities as its target, with log_target=True", "log-probabilities as its target", True)
    if log_target and float(target.max()) > NEAR:
        said = f"a target with numbers up to {float(target.max()):.3g}, with log_target=True"
        return Wrong(name, said, "log-probabilities as its target", False)
    if _dims_of_one(given):
        return Wrong(name, "probabilities (of a softmax)", "log-probabilities", True)
    dims = _dims_of_one(target.exp() if log_target else target)
    totals = [given.logsumexp(dim).exp() for dim in dims]
    if dims and all(bool((each > 1.05).all()) for each in totals):
        said = f"numbers whose exp sums to {float(totals[-1].reshape(-1)[0]):.3g} in a row"
        return Wrong(name, said, "log-probabilities (log_softmax)", True)
    return None


def _dims_of_one(numbers: Any) -> list[int]:
    """The dimensions along which they are distributions."""
    return [dim for dim in range(numbers.ndim) if numbers.shape[dim] > 1 and _sums_to_one(numbers, dim)]


def _sums_to_one(numbers: Any, dim: int) -> bool:
    return bool(numbers.min() >= 0) and bool((numbers.sum(dim) - 1).abs().max() < NEAR)


def made_by(tensor: Any, name: str) -> bool:
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
