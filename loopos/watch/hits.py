"""What follows a hit: the repetition, its birth, the bundle, and the policy."""

from __future__ import annotations

import dataclasses
import shlex
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from loopos.errors import Birth, NonFiniteError

from . import bundle, moments, wrappers
from .birth import unseen
from .calls import Call
from .finite import parameters_of
from .log import Log, rank_here
from .rerun import Rerun, rerun

POLICIES = ("halt", "skip", "warn")
MAX_IN_A_ROW = 2  # refused steps; the third raises, as in our own runs


class Hits:
    """Of one watch. refused: steps that changed nothing, or with "warn" should have; births: of each hit, in order."""

    def __init__(self, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], policy: str, log: Log):
        self._model, self._optimizers, self._log = model, optimizers, log
        self.policy, self.refused = policy, 0
        self.births: list[Birth] = []
        self._in_a_row = 0
        self._error: NonFiniteError | None = None  # of this step: a second optimizer meets the same
        self._held: dict[int, list[tuple[torch.nn.Parameter, torch.Tensor]]] = {}

    def forget(self) -> None:
        """A new step begins."""
        self._error = None

    def passed(self) -> None:
        """A step was finite."""
        if self._error is None:
            self._in_a_row = 0

    @property
    def skipped(self) -> int:
        """Steps that changed nothing: none with "warn"."""
        return self.refused if self.policy != "warn" else 0

    def counts(self, steps: int) -> dict[str, int]:
        """As the lines of a log have them."""
        applied = steps - self.skipped
        return {"attempted": steps, "applied": applied, "skipped": self.skipped, "nonfinite": self.refused}

    def hit(
        self,
        optimizer: torch.optim.Optimizer,
        bad: list[torch.nn.Parameter],
        calls: Sequence[Call],
        step: int,
        numbers: Mapping[str, float],
        *,
        only_if_found: bool = False,
    ) -> None:
        """The loss, or the gradients of ``bad``, are not finite. Returns when the step may go on. only_if_found: it is
        a hit only if the repetition is not finite either."""
        if self.policy == "warn" and self._in_a_row:  # weights that are not finite say nothing new
            self.refused += self._error is None
            return
        if self._error is None:
            found = self._again(calls, step, bad)
            if found.birth is None and only_if_found:
                return
            self._error = self._report(found, bad, calls, step, numbers)
            self.refused += 1
            self._in_a_row += 1
            self._log.refused(step, dict(numbers), self.counts(step), self._error.birth)
        self._decide(self._error)
        if self.policy != "warn":
            self._hide(optimizer)

    def _hide(self, optimizer: torch.optim.Optimizer) -> None:
        """Gradients, until ``put_back``."""
        held = [(each, each.grad) for each in parameters_of([optimizer]) if each.grad is not None]
        for parameter, _ in held:
            parameter.grad = None  # an optimizer leaves such a parameter and its moments alone
        self._held[id(optimizer)] = held

    def state(self, optimizer: torch.optim.Optimizer, birth: Birth, *how: Any) -> None:
        """What the optimizer keeps was not finite before the step. how: as of ``update``."""
        if self.policy == "warn" and self._in_a_row:
            self.refused += 1
            return
        self.update(birth, *how)
        if self.policy != "warn":
            self._hide(optimizer)

    def update(self, birth: Birth, calls: Sequence[Call], step: int, numbers: Mapping[str, float]) -> None:
        """An update made a weight or a moment that is not finite, and was undone unless the policy is "warn"."""
        error = self._report(Rerun(birth, ()), (), calls, step, numbers)
        self.refused += 1
        self._in_a_row += 1
        self._log.refused(step, dict(numbers), self.counts(step), birth)
        self._decide(error)

    def _decide(self, error: NonFiniteError) -> None:
        """Returns when the program may go on."""
        if self.policy == "warn":
            warnings.warn(f"loopos.watch: {error}", RuntimeWarning, stacklevel=8)
        elif self.policy == "halt":
            raise error
        elif self._in_a_row > MAX_IN_A_ROW:
            error.add(f"policy='skip': {self._in_a_row} steps in a row had to be refused, so it repeats itself")
            raise error

    def put_back(self, optimizer: torch.optim.Optimizer) -> bool:
        """After a step: gradients that were hidden from it. Whether there were any."""
        held = self._held.pop(id(optimizer), [])
        for parameter, gradient in held:
            parameter.grad = gradient
        return bool(held)

    def _again(self, calls: Sequence[Call], step: int, bad: Sequence[torch.nn.Parameter]) -> Rerun:
        with wrappers.without_sync(self._model):
            found = rerun(wrappers.bare(self._model), calls, parameters_of(self._optimizers), step)
        if bad and wrappers.is_parallel(self._model):
            found = _of_all_ranks(found)
        return found

    def _report(
        self, found: Rerun, bad: Sequence[Any], calls: Sequence[Call], step: int, numbers: Mapping[str, float]
    ) -> NonFiniteError:
        birth = found.birth or unseen(wrappers.bare(self._model), bad, bool(calls), found.notes, step, numbers["loss"])
        birth = self._of_a_moment(birth) if birth.op == "parameter" else birth
        self.births.append(birth)
        error = NonFiniteError(birth, updated=self.policy == "warn")
        for note in found.notes:
            error.add(note)
        if self._log.folder is not None:
            about = {"step": step, "loss": numbers["loss"], "grad_norm": numbers["grad_norm"], "notes": found.notes}
            try:
                model = wrappers.bare(self._model)
                path = bundle.keep(self._log.folder, model, calls, birth, found.operation, **about)
            except (OSError, MemoryError, TypeError, ValueError) as failure:
                error.add(f"No bundle to repeat the step from could be written: {failure}")
            else:
                error.add(f"To repeat it: loopos replay {shlex.quote(str(path))}", path)
        return error

    def _of_a_moment(self, birth: Birth) -> Birth:
        """Of a weight that was not finite before the step: whether the optimizer made it so."""
        weight = dict(wrappers.bare(self._model).named_parameters()).get(birth.tensor)
        kept = (
            [name for each in self._optimizers for name in moments.broken(each, weight)] if weight is not None else []
        )
        if not kept:
            return birth if weight is None else self._of_a_rule(birth, weight)
        words = f"{birth.cause}; the optimizer's {kept[0]} of it is not finite either, so an update wrote it"
        return dataclasses.replace(birth, cause=words, advice=moments.ADVICE)

    def _of_a_rule(self, birth: Birth, weight: torch.nn.Parameter) -> Birth:
        """The same where an optimizer that is not PyTorch's updates the weight: its arithmetic is not known here."""
        for each in self._optimizers:
            of_torch = type(each).__module__.startswith("torch.optim.")
            if not of_torch and birth.step > 1 and any(weight is one for one in parameters_of([each])):
                rule = type(each).__name__
                words = (
                    f"{birth.cause}; the optimizer is {rule}, none of PyTorch's: its update before may have made it so"
                )
                advice = (
                    f"look at what {rule} divides by (the norm of a gradient that is 0 needs an eps) and at its rate; "
                    "if it is sound, find who else wrote the weight: loading, or own code between steps"
                )
                return dataclasses.replace(birth, cause=words, advice=advice)
        return birth


def _of_all_ranks(found: Rerun) -> Rerun:
    """Gradients are the same on all ranks, so all are here: the first that can name a birth speaks for all."""
    said: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(said, found.birth)
    for rank, birth in enumerate(said):
        if birth is not None:
            told = dataclasses.replace(birth, rank=f"rank {rank} of {len(said)}")
            mine = rank == rank_here()
            return Rerun(told, found.notes if mine else (), found.operation if mine else None)
    return found
