"""What every optimizer does alike: arrays updated in place, all or nothing, and state that can be saved.

A step first proves that nothing it writes can become NaN or infinite (``cpp/optim/optimizer.h``); where it cannot,
it raises :class:`loopos.NonFiniteError` and no weight, moment or count has changed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from loopos import _core, checks, precision
from loopos.births.birth import refused_update
from loopos.errors import NonFiniteError
from loopos.trainable import trainable_of


def number(function: str, name: str, value: Any, *, below: float = math.inf) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{function}: {name} must be a number, got {type(value).__name__}")
    if not 0 <= value < below:  # NaN and inf fail too
        wanted = "finite and not negative" if below == math.inf else f"in [0, {below:g})"
        raise ValueError(f"{function}: {name} must be {wanted}, got {value}")
    return float(value)


def two_betas(function: str, betas: Any) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"{function}: betas must be two numbers in [0, 1), got {betas!r}")
    return number(function, "betas[0]", betas[0], below=1), number(function, "betas[1]", betas[1], below=1)


def _differences(expected, got) -> list[str]:
    lines = []
    if missing := [k for k in expected if k not in got]:
        lines.append(f"missing: {missing}")
    if unexpected := [k for k in got if k not in expected]:
        lines.append(f"unexpected: {unexpected}")
    return lines


def _numbers(kept: np.ndarray) -> np.ndarray:
    """A kept moment whose sign can be tested: bfloat16 bits as float32, all else as it is."""
    return (kept.astype(np.uint32) << 16).view(np.float32) if kept.dtype == np.uint16 else kept


def _trainable(function: str, model: Any) -> Mapping[str, np.ndarray]:
    precision.refuse_training(function, model)
    if not (views := trainable_of(model)):
        raise ValueError(f"{function}: every parameter of the model is frozen; unfreeze what is to be trained")
    return views


# How moments are kept: as the weights are, or in fewer bits; and the share of a float32 number that one takes.
MOMENTS = {"float32": 1.0, "bfloat16": 1 / 2, "8bit": 1 / 4 + 1 / 128}


class Group(NamedTuple):
    """Tensors that follow one rule of the core. rate: what the learning rate of a step is multiplied by."""

    rule: str
    options: Mapping[str, float | bool | str]
    rate: float = 1.0


class Optimizer:
    """Updates ``params`` by one rule, or each by the rule of its group, within one step."""

    _rule: str  # its name in the core
    _takes: tuple[str, ...] = ()  # those of train's settings "betas" and "eps" that the rule has
    _matrices_only = False

    def __init__(
        self,
        params: Any,
        lr: float,
        weight_decay: float,
        groups: Sequence[Group],
        *,
        group_of: Callable[[str, np.ndarray], int] = lambda name, array: 0,
        decay_matrices_only: bool = False,
        moments: str = "float32",
    ):
        """moments: how they are kept, of MOMENTS."""
        self._name = type(self).__name__
        self.lr = number(self._name, "lr", lr)
        weight_decay = number(self._name, "weight_decay", weight_decay)
        self._owner = params if hasattr(params, "lock") else None  # a Model: one call at a time, its own included
        params = _trainable(self._name, params) if hasattr(params, "parameters") else params
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
        rules = [(group.rule, group.rate, dict(group.options)) for group in groups]
        members = [group_of(name, array) for name, array in self._params.items()]
        checks.choice(self._name, "moments", moments, MOMENTS)
        self._core = _core.Optimizer(rules, list(self._params), arrays, decay, members, moments)

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
        rate = self.lr if lr is None else number(f"{self._name}.step", "lr", lr)
        if not isinstance(grads, Mapping):
            raise TypeError(f"{self._name}.step: grads must be a dict of arrays, got {type(grads).__name__}")
        if lines := _differences(self._params, grads):
            raise ValueError(f"{self._name}.step: the keys of grads must be those of params; {'; '.join(lines)}")
        ordered = [grads[name] for name in self._params]
        birth = self._step([np.asarray(g) if isinstance(g, np.generic) else g for g in ordered], rate, 1.0)
        if birth is not None:
            raise NonFiniteError(refused_update(birth, None))

    def _step(
        self,
        grads: list[np.ndarray],
        lr: float,
        scale: float,
        norm: float = math.nan,
        untouched: bool = False,
        agree: Callable[[], bool] | None = None,
    ) -> dict | None:
        with self._owner.lock if self._owner is not None else nullcontext():
            for name, copy in self._copies.items():
                copy[...] = self._params[name]
            birth = self._core.step(grads, lr, scale, norm, untouched, agree)
            if birth is None:
                for name, copy in self._copies.items():
                    self._params[name][...] = copy
            return birth

    def state_dict(self) -> dict[str, Any]:
        """A flat dict: "step", the number of updates done, and copies of the moments ("exp_avg.<name>",
        "exp_avg_sq.<name>", "momentum.<name>": what the rule keeps)."""
        return {name: value if name == "step" else value.copy() for name, value in self.living_state().items()}

    def state_in_numbers(self) -> dict[str, Any]:
        """The same with the moments as numbers, in the dtype of the parameters: what an update computes with."""
        return {"step": self._core.count, **self._core.moments()}

    def living_state(self) -> dict[str, Any]:
        """The same as :meth:`state_dict` with views of the moments, which the next step changes."""
        return {"step": self._core.count, **self._core.state()}

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
            elif name in not_negative and (numbers := _numbers(value))[numbers < 0].size:
                lines.append(f"{name}: a second moment must not be negative, got {np.nanmin(numbers)}")
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
