"""Which parameters of a model are trained: those of a Model that are not frozen, all of any other object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from . import checks
from .calls import refuse_in_training, serialised


def trainable_of(model: Any) -> Mapping[str, np.ndarray]:
    """Live views by name: ``model.parameters(trainable=True)`` of a Model, ``model.parameters()`` of any other."""
    return model.parameters(trainable=True) if hasattr(model, "freeze") else model.parameters()


def freeze_alike(copy: Any, model: Any) -> None:
    """Freezes in ``copy`` what is frozen in ``model``, and nothing else."""
    if hasattr(model, "freeze"):
        copy._freeze_alone(model.parameters(trainable=False))


class Trainable:
    """The part of a Model that says which of its parameters are trained."""

    arithmetic: Any
    adapter: Any
    lock: Any
    _core: Any
    _training: bool

    def parameters(self, trainable: bool | None = None) -> dict[str, np.ndarray]:
        """Writable views of the weights by name, in order of execution; they stay live through training and loading.

        trainable: None gives all, True those that are trained, False those that :meth:`freeze` froze."""
        if trainable is not None:
            trainable = checks.boolean("Model.parameters", "trainable", trainable)
        return self._core.parameters(trainable)

    @serialised
    def freeze(self, pattern: str | None = None) -> list[str]:
        """Freezes the parameters whose names match ``pattern``, as of fnmatch ("blocks.0.*"); None: all of them.

        A frozen parameter has no gradient and no moments, and an optimizer that is made from now on leaves its bits.
        Backward ends below the lowest block that has a trainable one. Of a model with an adapter, this is about the
        adapter's matrices: the base is frozen. Returns the names that match; ValueError when there is none,
        RuntimeError while loopos.train trains this model."""
        return self._set_trainable("freeze", pattern, False)

    @serialised
    def unfreeze(self, pattern: str | None = None) -> list[str]:
        """Makes the parameters whose names match ``pattern`` trainable again, as :meth:`freeze` takes it."""
        return self._set_trainable("unfreeze", pattern, True)

    def _freeze_alone(self, names: Iterable[str]) -> None:
        """Freezes these and nothing else."""
        frozen = set(names)
        for name in self.adapter_parameters() or self.parameters():  # under an adapter the base is frozen anyway
            self._core.set_trainable(name, name not in frozen)

    def _set_trainable(self, verb: str, pattern: str | None, trainable: bool) -> list[str]:
        if pattern is not None and not isinstance(pattern, str):
            raise TypeError(
                f"Model.{verb}: pattern must be None or a str such as 'blocks.0.*', got {checks.shown(pattern)}"
            )
        if trainable and self.adapter is None:
            self.arithmetic.refuse_training(f"Model.{verb}")
        refuse_in_training(self, f"Model.{verb}")
        every = self.adapter_parameters() or self.parameters()  # under an adapter the base stays frozen
        names = [name for name in every if pattern is None or fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(f"Model.{verb}: no parameter matches {pattern!r}; their names are {', '.join(every)}")
        for name in names:
            self._core.set_trainable(name, trainable)
        return names
