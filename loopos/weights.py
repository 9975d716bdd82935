"""The weights of a model as copies, out and in; and the locks of models in a forked child."""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import checks
from .calls import serialised


class Weighted(ABC):
    """The part of a model that gives and takes its weights. It has parameters(), dtype and lock."""

    lock: Any
    dtype: Any
    _training: bool  # inside loopos.train
    _record: Any = None  # of the run that trained it, or is training it

    @abstractmethod
    def parameters(self, trainable: bool | None = None) -> dict[str, np.ndarray]:
        """Writable views of the weights by name; see ``loopos.trainable``."""

    @serialised
    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the weights, keyed as in :meth:`parameters`."""
        return {name: view.copy() for name, view in self.parameters().items()}

    @serialised
    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copies weights in, all or nothing.

        Missing or unexpected names and wrong shapes: ValueError listing all of them; another dtype: TypeError.
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{where}: state must be a dict of arrays, got {checks.shown(state)}")
        views, state = self.parameters(), dict(state)
        problems = [f"missing {name}" for name in views if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in views]
        for name in views.keys() & state.keys():
            checks.unmasked(where, name, state[name])
            if not isinstance(state[name], np.ndarray) or state[name].dtype != np.dtype(self.dtype):
                got = getattr(state[name], "dtype", type(state[name]).__name__)
                raise TypeError(f"{where}: {name} must be a numpy array of {self.dtype}, got {got}")
            if state[name].shape != views[name].shape:
                problems.append(f"{name} must have shape {views[name].shape}, got {state[name].shape}")
        if problems:
            raise ValueError(f"{where}: " + "; ".join(sorted(problems)))
        # The source may be these very views in another order: what overlaps them is copied before the first is written.
        weights = list(views.values())
        overlapping = [name for name in views if any(np.may_share_memory(state[name], view) for view in weights)]
        source = {**state, **{name: np.array(state[name]) for name in overlapping}}
        for name, view in views.items():
            view[...] = source[name]
        self._weights_changed()

    def _weights_changed(self) -> None:
        """They are the numbers of something else now, which no run that is known made."""
        if not self._training:
            self._record = None


_MODELS: weakref.WeakSet[Any] = weakref.WeakSet()


def keep_lock(model: Any) -> None:
    """``model`` has a lock, which train and the optimizers take too; a callback may call the model again."""
    model.lock = threading.RLock()
    _MODELS.add(model)


def _unlock_in_child() -> None:
    """In a forked child the thread that held a lock does not exist."""
    for model in list(_MODELS):
        model.lock = threading.RLock()


os.register_at_fork(after_in_child=_unlock_in_child)
