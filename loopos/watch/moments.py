"""What an optimizer keeps of a weight, and was not finite before the step: as a checkpoint of a broken run has it.

The gradients of such a step are finite, and its update spoils the weights. State is looked at when there may be news:
before the first step of a watch, and before the one after each ``load_state_dict``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from loopos.errors import Birth

from .finite import is_finite, plain

ADVICE = (
    "the state of the optimizer was broken before this step: load that of an earlier checkpoint, or begin without it "
    "(optimizer.state.clear())"
)


class Moments:
    """Of the optimizers of one watch. hooks: to be removed with it."""

    def __init__(self, optimizers: Iterable[torch.optim.Optimizer]):
        optimizers = list(optimizers)
        self._news = {id(each) for each in optimizers}
        self.hooks = [each.register_load_state_dict_post_hook(self._loaded) for each in optimizers]

    def _loaded(self, optimizer: torch.optim.Optimizer) -> None:
        self._news.add(id(optimizer))

    def spoiled(self, optimizer: torch.optim.Optimizer) -> tuple[torch.nn.Parameter, str] | None:
        """A weight and the name of what is kept of it and is not finite; None where all is, or nothing is new."""
        if id(optimizer) not in self._news:
            return None
        found = next(((each, name) for each in _held(optimizer) for name in broken(optimizer, each)), None)
        if found is None:
            self._news.discard(id(optimizer))
        return found


def broken(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> Iterator[str]:
    """The names of what the optimizer keeps of a weight and is not finite. A rule that is not PyTorch's own may count
    with infinities (the least gradient so far): of it only a NaN is told."""
    state: Mapping[str, Any] = optimizer.state.get(parameter, {})
    known = type(optimizer).__module__.startswith("torch.optim.")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or is_finite(value):
            continue
        if (known and value.shape == parameter.shape) or bool(torch.isnan(plain(value)).any()):
            yield str(name)


def _held(optimizer: torch.optim.Optimizer) -> Iterator[torch.nn.Parameter]:
    return (each for group in optimizer.param_groups for each in group["params"])


def birth(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, kept: str, name: str, step: int) -> Birth:
    """Of what ``spoiled`` gave. name: of the weight."""
    state = optimizer.state[parameter][kept].detach()
    bad = ~torch.isfinite(state)
    index = tuple(int(at) for at in bad.nonzero()[0]) if state.ndim else ()
    value = plain(state[index])
    number = float(value if value.ndim == 0 else value[int(bool(torch.isfinite(value[0])))])
    words = f"{kept} of {name} has {int(bad.sum())} of {state.numel()} numbers that are not finite before the step"
    return Birth(
        step=step,
        phase="update",
        layer=None,
        op=type(optimizer).__name__.lower(),
        tensor=f"{name}.{kept}",
        index=index,
        value=number if not math.isfinite(number) else math.nan,
        cause=f"input not finite: {words}",
        advice=ADVICE,
    )
