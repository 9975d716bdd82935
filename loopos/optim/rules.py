"""The optimizers by name. Their formulas are in ``cpp/optim/rules``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from loopos import checks

from .base import Group, Optimizer, number, two_betas


def _switch(function: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{function}: {name} must be True or False, got {value!r}")
    return bool(value)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013), as ``torch.optim.SGD``.

    params: a Model or a dict of writeable float32 or float64 arrays (one dtype), updated in place. weight_decay is
    L2: it is added to the gradient. nesterov needs momentum above 0 and dampening 0. ValueError for anything out of
    range.
    """

    _rule = "sgd"
    _takes = ()

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        momentum: float = 0,
        dampening: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
    ):
        momentum = number("SGD", "momentum", momentum)
        nesterov = _switch("SGD", "nesterov", nesterov)
        if isinstance(dampening, bool) or not isinstance(dampening, (int, float, np.integer, np.floating)):
            raise TypeError(f"SGD: dampening must be a number, got {type(dampening).__name__}")
        if not math.isfinite(dampening):
            raise ValueError(f"SGD: dampening must be finite, got {dampening}")
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                "SGD: nesterov needs momentum above 0 and dampening 0, "
                f"got momentum {momentum} and dampening {dampening}"
            )
        options = {"momentum": momentum, "dampening": float(dampening), "nesterov": nesterov}
        super().__init__(params, lr, weight_decay, [Group(self._rule, options)])


class Adam(Optimizer):
    """Adam (Kingma, Ba 2015), as ``torch.optim.Adam``: weight_decay is L2, added to the gradient.

    params: a Model or a dict of writeable float32 or float64 arrays (one dtype), updated in place. betas in [0, 1),
    eps >= 0: ValueError otherwise. moments: "float32", as the parameters are; or, of float32 ones, "bfloat16" or
    "8bit", which take half and a quarter of the memory (docs/precision.md).
    """

    _rule = "adam"
    _takes = ("betas", "eps")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        moments: str = "float32",
    ):
        name = type(self).__name__
        beta1, beta2 = two_betas(name, betas)
        options = {"beta1": beta1, "beta2": beta2, "eps": number(name, "eps", eps)}
        super().__init__(params, lr, weight_decay, [Group(self._rule, options)], moments=moments)


class AdamW(Adam):
    """AdamW (Loshchilov, Hutter 2019), as ``torch.optim.AdamW``: weights are multiplied by 1 - lr weight_decay,
    apart from the gradient.

    params: a Model or a dict of writeable float32 or float64 arrays (one dtype), updated in place. betas in [0, 1),
    eps >= 0: ValueError otherwise. moments: "float32", as the parameters are; or, of float32 ones, "bfloat16" or
    "8bit", which take half and a quarter of the memory (docs/precision.md).
    """

    _rule = "adamw"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        moments: str = "float32",
    ):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay, moments=moments)


class Lion(Optimizer):
    """Lion (Chen et al. 2023): every element moves by lr, in the direction of the sign of a blend of momentum and
    gradient. Weights are multiplied by 1 - lr weight_decay, apart from the gradient.

    Its rate wants to be 3 to 10 times smaller than AdamW's, its weight_decay as much larger. params: a Model or a dict
    of writeable float32 or float64 arrays (one dtype), updated in place. betas in [0, 1): ValueError otherwise.
    moments: as of AdamW.
    """

    _rule = "lion"
    _takes = ("betas",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        moments: str = "float32",
    ):
        beta1, beta2 = two_betas("Lion", betas)
        super().__init__(
            params, lr, weight_decay, [Group(self._rule, {"beta1": beta1, "beta2": beta2})], moments=moments
        )


class Muon(Optimizer):
    """Muon (Jordan et al. 2024), as ``torch.optim.Muon``: momentum, made orthogonal by ns_steps of Newton-Schulz, for
    matrices. Weights are multiplied by 1 - lr weight_decay first.

    params: a Model or a dict of writeable float32 or float64 arrays (one dtype), updated in place, each of two
    dimensions. A Model has others too: give its hidden matrices here and the rest to another optimizer, or let
    ``loopos.train(optimizer="muon")`` do so. Newton-Schulz runs in the parameter's dtype (torch's in bfloat16). The
    momentum's Frobenius norm is taken as eps where it is smaller. adjust_lr_fn: None or "original" multiplies lr by
    sqrt(max(1, rows / columns)), "match_rms_adamw" by 0.2 sqrt(max(rows, columns)) (Liu et al. 2025), for which AdamW's
    lr and weight_decay are right. ValueError for a tensor that is no matrix, momentum outside [0, 1), ns_steps outside
    0..99 and anything else out of range.
    """

    _rule = "muon"
    _takes = ()
    _matrices_only = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        eps: float = 1e-7,
        adjust_lr_fn: str | None = None,
    ):
        options = {
            "momentum": number("Muon", "momentum", momentum, below=1),
            "nesterov": _switch("Muon", "nesterov", nesterov),
            "ns_steps": float(checks.integer("Muon", "ns_steps", ns_steps, low=0, high=99)),
            "eps": number("Muon", "eps", eps),
        }
        if adjust_lr_fn is not None:
            choices = ("original", "match_rms_adamw")
            options["adjust_lr_fn"] = checks.choice("Muon", "adjust_lr_fn", adjust_lr_fn, choices)
        super().__init__(params, lr, weight_decay, [Group(self._rule, options)])


# Every rule that a run can follow, the default first. What takes matrices only is for those inside blocks.
RULES: dict[str, type[Optimizer]] = {cls._rule: cls for cls in (AdamW, Adam, SGD, Lion, Muon)}
