"""A model as a classifier: a head of classes in the place of the one that gives the next token."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loopos import checks, storage
from loopos.calls import refuse_in_training
from loopos.config import ModelConfig
from loopos.hf.classes import SCORE
from loopos.precision import Arithmetic

if TYPE_CHECKING:
    from typing import Self


class Classes:
    """What a Model can do with the labels of its config."""

    _config: ModelConfig
    _core: Any
    arithmetic: Arithmetic
    _training: bool
    lock: threading.RLock
    put_on_again: Callable[..., None]
    _beside: Mapping[str, np.ndarray]

    def classify(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """The score of each class, (N, number of labels), of texts: 1-D arrays of ids, each read up to its last one.
        ValueError of a model without labels (:meth:`with_labels`)."""
        if not self._config.labels:
            raise ValueError(
                "Model.classify: this model has no labels; loopos.train with task='classify', or Model.with_labels, "
                "gives it a head of classes"
            )
        scores = np.empty((len(texts), self._config.num_labels), self.arithmetic.dtype)
        for at, ids in enumerate(texts):
            checks.unmasked("Model.classify", f"texts[{at}]", ids)
            if not isinstance(ids, np.ndarray) or ids.ndim != 1:
                raise TypeError(f"Model.classify: texts[{at}] must be a 1-D array of ids, got {checks.shown(ids)}")
            with self.lock:
                scores[at] = self._core.forward(ids[None], None)[0, -1]
        return scores

    def with_labels(self, labels: Sequence[str], *, seed: int = 0) -> Self:
        """Gives this model a head of classes with these names in place of the head that it has, and returns it.

        forward then gives a score for each class at each position, of which that at a text's last token counts. The new
        matrix is drawn by ``seed`` (normal 0.02); all else stays as it is, an adapter too, and so does a model that
        has just these labels. Where weights are stored small the matrix is not, and can be trained. RuntimeError while
        loopos.train trains this model."""
        where = "Model.with_labels"
        with self.lock:
            if tuple(labels) == self._config.labels:
                return self
            refuse_in_training(self, where)
            config = dataclasses.replace(self._config, labels=tuple(labels))
            of = self.arithmetic
            types = {"dtype": of.dtype, "weights": of.kind and of.weights, "precision": of.precision}
            fresh = type(self)(config, seed=seed, **types)  # type: ignore[call-arg]
            kept, frozen = self._core.parameters(), self._core.parameters(False)
            for name, view in fresh._core.parameters().items():
                if name in kept and name != SCORE:
                    view[...] = kept[name]
                fresh._core.set_trainable(name, name == SCORE or name not in frozen)
            known = {each["name"] for each in fresh._core.stored()}
            small = storage.state(self._core)
            storage.put_back(fresh._core, {name: bits for name, bits in small.items() if name in known})
            before = self.head()
            self._config, self._core = config, fresh._core
            try:
                self.put_on_again({name: view for name, view in kept.items() if name != SCORE}, frozen)
            except BaseException:
                self.take_back(before)
                raise
        return self

    def head(self) -> tuple[Any, ...]:
        """What :meth:`take_back` takes."""
        return self._config, self._core, self._beside

    def take_back(self, head: tuple[Any, ...]) -> None:
        """Makes it the model that it was before :meth:`with_labels`, when :meth:`head` gave this."""
        with self.lock:
            self._config, self._core, self._beside = head
            self._core.precision = self.arithmetic.precision  # which may have been set since

    def refuse_classes(self, where: str) -> None:
        """ValueError where the next token is asked for and there are classes."""
        if self._config.labels:
            raise ValueError(f"{where}: this model gives scores of {self._config.num_labels} classes, no next token")
