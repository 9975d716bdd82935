"""Whether all gradients of a step are finite: one pass over them, before a weight is touched.

The pass is the 2-norm of every tensor, which the monitor wants anyway. A NaN or an infinity makes it not finite, and so
do finite numbers whose squares overflow: only then are the elements themselves looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Its numbers as a dense real tensor: the values of a sparse one, both parts of a complex one, what this rank holds
    of a distributed one."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if type(tensor) is not torch.Tensor and hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.layout is not torch.strided:
        tensor = tensor.values() if tensor.layout is not torch.sparse_coo else tensor._values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage:
    """Where its numbers are: of a sparse tensor those of its values."""
    return (tensor if tensor.layout is torch.strided else plain(tensor)).untyped_storage()


def is_finite(tensor: torch.Tensor) -> bool:
    """Of every element. A sum that is finite has no other: the usual case costs one pass."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return True
    tensor = plain(tensor)
    if tensor.itemsize == 1:  # float8 has neither sums nor tests
        tensor = tensor.float()
    return math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


class Norms:
    """Of the gradients of a step. total: their 2-norm together; bad: the places in the list of those that are not
    finite."""

    def __init__(self, gradients: Sequence[torch.Tensor]):
        norms = _norms([plain(gradient) for gradient in gradients])
        self.total = math.sqrt(sum(norm * norm for norm in norms)) if norms else 0.0
        self.bad: list[int] = []
        if math.isfinite(self.total):
            return
        suspects = [at for at, norm in enumerate(norms) if not math.isfinite(norm)]
        self.bad = [at for at in suspects if not is_finite(gradients[at])]
        if not self.bad:  # finite, and too large to be squared
            self.total = _wide(gradients)


def _norms(gradients: list[torch.Tensor]) -> list[float]:
    if not gradients:
        return []
    found = torch._foreach_norm(gradients)
    if len({(each.device, each.dtype) for each in found}) == 1:
        return torch.stack(found).tolist()
    return [norm.item() for norm in found]


def _wide(gradients: Iterable[torch.Tensor]) -> float:
    """The same norm in float64, scaled so that no square leaves its range."""
    largest = max((float(plain(each).abs().max()) for each in gradients if each.numel()), default=0.0)
    if largest == 0:
        return 0.0
    squares = (float((plain(each).double() / largest).square().sum()) for each in gradients)
    return largest * math.sqrt(math.fsum(squares))


def parameters_of(optimizers: Iterable[torch.optim.Optimizer]) -> list[torch.nn.Parameter]:
    """All that the optimizers hold, each once, in their order."""
    held = (parameter for each in optimizers for group in each.param_groups for parameter in group["params"])
    return list({id(parameter): parameter for parameter in held}.values())
