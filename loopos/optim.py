"""SGD, Adam and AdamW: the update rules of ``torch.optim``, in one fused pass per tensor, all or nothing.

A step first proves that nothing it writes can become NaN or infinite (``cpp/optim/optimizer.h``); where it cannot,
it raises :class:`loopos.NonFiniteError` and no weight, moment or count has changed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from loopos import _core, checks
from loopos.births.birth import refused_update
from loopos.errors import NonFiniteError

__all__ = ["SGD", "Adam", "AdamW"]


def _number(function: str, name: str, value: Any, *, below: float = math.inf) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{function}: {name} must be a number, got {type(value).__name__}")
    if not 0 <= value < below:  # NaN and inf fail too
        wanted = "finite and not negative" if below == math.inf else f"in [0, {below:g})"
        raise ValueError(f"{function}: {name} must be {wanted}, got {value}")
    return float(value)


def _betas(function: str, betas: Any) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"{function}: betas must be two numbers in [0, 1), got {betas!r}")
    return _number(function, "betas[0]", betas[0], below=1), _number(function, "betas[1]", betas[1], below=1)


def _differences(expected, got) -> list[str]:
    lines = []
    if missing := [k for k in expected if k not in got]:
        lines.append(f"missing: {missing}")
    if unexpected := [k for k in got if k not in expected]:
        lines.append(f"unexpected: {unexpected}")
    return lines


class _Optimizer:
    _kind: str

    def __init__(self, params: Any, lr: float, weight_decay: float, *, decay_matrices_only: bool = False, **options):
        self._name = type(self).__name__
        self.lr = _number(self._name, "lr", lr)
        weight_decay = _number(self._name, "weight_decay", weight_decay)
        self._owner = params if hasattr(params, "lock") else None  # a Model: one call at a time, its own included
        params = params.parameters() if hasattr(params, "parameters") else params
        if not isinstance(params, Mapping):
            raise TypeError(f"{self._name}: params must be a Model or a dict of arrays, got {type(params).__name__}")
        self._params = dict(params)
        for name, array in self._params.items():
            if not isinstance(name, str):
                raise TypeError(f"{self._name}: the names of params must be str, got {name!r}")
            if not isinstance(checks.unmasked(self._name, f"params[{name!r}]", array), np.ndarray):
                raise TypeError(f"{self._name}: params[{name!r}] must be a numpy array, got {type(array).__name__}")
            if not array.flags.writeable:
                raise ValueError(
                    f"{self._name}: params[{name!r}] is read-only; it must be writeable, to be updated in place"
                )
        # A view with gaps is updated in a contiguous copy, which is taken from it before a step and put back after.
        self._copies = {
            name: np.ascontiguousarray(array)
            for name, array in self._params.items()
            if not (array.flags.c_contiguous and array.flags.aligned)
        }
        decay = [weight_decay if a.ndim >= 2 or not decay_matrices_only else 0.0 for a in self._params.values()]
        arrays = [self._copies.get(name, array) for name, array in self._params.items()]
        rules = [(self._kind, 1.0, options)]
        self._core = _core.Optimizer(rules, list(self._params), arrays, decay, [0] * len(arrays))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Asked for by copy and pickle. A copy would update the original's arrays, from moments of its own."""
        raise TypeError(
            f"{self._name} cannot be copied or pickled, because it updates the arrays that it was made over; copy them "
            f"(a Model can be copied), make a new {self._name} over the copies, and hand it this one's state_dict() "
            "with load_state_dict"
        )

    def step(self, grads: Mapping[str, np.ndarray], lr: float | None = None) -> None:
        """Updates every parameter in place, or none.

        grads: one array per parameter, same key, shape and dtype. lr: replaces the rate for this call only.
        ValueError for keys or shapes that differ, TypeError for a dtype; NonFiniteError when a gradient is not
        finite (phase "backward") or the update would make a weight or a moment not finite (phase "update").
        """
        rate = self.lr if lr is None else _number(f"{self._name}.step", "lr", lr)
        if not isinstance(grads, Mapping):
            raise TypeError(f"{self._name}.step: grads must be a dict of arrays, got {type(grads).__name__}")
        if lines := _differences(self._params, grads):
            raise ValueError(f"{self._name}.step: the keys of grads must be those of params; {'; '.join(lines)}")
        ordered = [grads[name] for name in self._params]
        birth = self._step([np.asarray(g) if isinstance(g, np.generic) else g for g in ordered], rate, 1.0)
        if birth is not None:
            raise NonFiniteError(refused_update(birth, None))

    def _step(self, grads: list[np.ndarray], lr: float, scale: float, norm: float = math.nan) -> dict | None:
        with self._owner.lock if self._owner is not None else nullcontext():
            for name, copy in self._copies.items():
                copy[...] = self._params[name]
            birth = self._core.step(grads, lr, scale, norm)
            if birth is None:
                for name, copy in self._copies.items():
                    self._params[name][...] = copy
            return birth

    def state_dict(self) -> dict[str, Any]:
        """A flat dict: "step", the number of updates done, and copies of the moments ("exp_avg.<name>",
        "exp_avg_sq.<name>"; "momentum.<name>")."""
        return {"step": self._core.count, **{name: view.copy() for name, view in self._core.state().items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a state_dict, or nothing at all.

        ValueError listing all missing and unexpected keys and wrong shapes, TypeError for wrong dtypes, ValueError
        for a negative step or second moment.
        """
        where = f"{self._name}.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{where}: state must be a dict, got {type(state).__name__}")
        views, not_negative = self._core.state(), set(self._core.not_negative())
        lines = _differences(["step", *views], state)
        types = []
        for name, view in views.items():
            if name not in state:
                continue
            value = checks.unmasked(where, name, state[name])
            if not isinstance(value, (np.ndarray, np.generic)):  # an array without axes easily becomes a numpy scalar
                types.append(f"{name}: expected a numpy array, got {type(value).__name__}")
            elif value.dtype != view.dtype:
                types.append(f"{name}: expected dtype {view.dtype}, got {value.dtype}")
            elif value.shape != view.shape:
                lines.append(f"{name}: expected shape {view.shape}, got {value.shape}")
            elif name in not_negative and (value < 0).any():
                lines.append(f"{name}: a second moment must not be negative, got {value.min()}")
        if types:
            raise TypeError(f"{where}: {'; '.join(types)}")
        if lines:
            raise ValueError(f"{where}: {'; '.join(lines)}")
        if isinstance(state["step"], (bool, np.bool_)):
            raise TypeError(f"{where}: step must be a whole number, got {state['step']}")
        try:
            step = operator.index(state["step"])
        except TypeError:
            raise TypeError(f"{where}: step must be a whole number, got {state['step']!r}") from None
        if not 0 <= step < 2**63:
            raise ValueError(f"{where}: step must not be negative, got {step}")
        for name, view in views.items():
            view[...] = state[name]
        self._core.count = step


class SGD(_Optimizer):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013), as ``torch.optim.SGD``.

    params: a Model or a dict of writeable float32 or float64 arrays (one dtype), updated in place. weight_decay is
    L2: it is added to the gradient. nesterov needs momentum above 0 and dampening 0. ValueError for anything out of
    range.
    """

    _kind = "sgd"

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        momentum: float = 0,
        dampening: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
        _decay_matrices_only: bool = False,
    ):
        momentum = _number("SGD", "momentum", momentum)
        if not isinstance(nesterov, (bool, np.bool_)):
            raise TypeError(f"SGD: nesterov must be True or False, got {nesterov!r}")
        if isinstance(dampening, bool) or not isinstance(dampening, (int, float, np.integer, np.floating)):
            raise TypeError(f"SGD: dampening must be a number, got {type(dampening).__name__}")
        if not math.isfinite(dampening):
            raise ValueError(f"SGD: dampening must be finite, got {dampening}")
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                "SGD: nesterov needs momentum above 0 and dampening 0, "
                f"got momentum {momentum} and dampening {dampening}"
            )
        super().__init__(
            params,
            lr,
            weight_decay,
            decay_matrices_only=_decay_matrices_only,
            momentum=momentum,
            dampening=float(dampening),
            nesterov=bool(nesterov),
        )


class Adam(_Optimizer):
    """Adam (Kingma, Ba 2015), as ``torch.optim.Adam``: weight_decay is L2, added to the gradient.

    params: a Model or a dict of writeable float32 or float64 arrays (one dtype), updated in place. betas in [0, 1),
    eps >= 0: ValueError otherwise.
    """

    _kind = "adam"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        _decay_matrices_only: bool = False,
    ):
        name = type(self).__name__
        beta1, beta2 = _betas(name, betas)
        eps = _number(name, "eps", eps)
        super().__init__(
            params, lr, weight_decay, decay_matrices_only=_decay_matrices_only, beta1=beta1, beta2=beta2, eps=eps
        )


class AdamW(Adam):
    """AdamW (Loshchilov, Hutter 2019), as ``torch.optim.AdamW``: weights are multiplied by 1 - lr weight_decay,
    apart from the gradient.

    params: a Model or a dict of writeable float32 or float64 arrays (one dtype), updated in place. betas in [0, 1),
    eps >= 0: ValueError otherwise.
    """

    _kind = "adamw"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        _decay_matrices_only: bool = False,
    ):
        super().__init__(
            params, lr, betas=betas, eps=eps, weight_decay=weight_decay, _decay_matrices_only=_decay_matrices_only
        )


class _TrainingOptimizer:
    """The optimizer of the training loop: reads the model's own gradient buffer and multiplies it by the clip factor
    inside the update."""

    def __init__(self, optimizer: _Optimizer, model: Any):
        self._optimizer = optimizer
        self._grads = list(model._core.gradients().values())

    def step_core(self, lr: float, scale: float, norm: float = math.nan) -> dict | None:
        """None when every parameter was updated; else where the bad number is and of what it was made (phase, tensor,
        index, value, result, operands), and nothing was changed. norm: that of the gradients, where it is known."""
        return self._optimizer._step(self._grads, lr, scale, norm)

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._optimizer.load_state_dict(state)


def _for_training(kind: str, model: Any, *, betas=(0.9, 0.95), eps: float = 1e-8, weight_decay: float = 0.1):
    """The optimizer that loopos.train uses ("sgd" without momentum): decay, L2 but for AdamW, acts on tensors of two
    or more dimensions."""
    if kind == "sgd":
        optimizer: _Optimizer = SGD(model, 0.0, weight_decay=weight_decay, _decay_matrices_only=True)
    elif kind in ("adam", "adamw"):
        make = AdamW if kind == "adamw" else Adam
        optimizer = make(model, 0.0, betas=betas, eps=eps, weight_decay=weight_decay, _decay_matrices_only=True)
    else:
        raise ValueError(f"train: optimizer must be 'adamw', 'adam' or 'sgd', got {kind!r}")
    return _TrainingOptimizer(optimizer, model)
