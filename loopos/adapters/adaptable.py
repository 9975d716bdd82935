"""The part of a Model that holds an adapter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks
from loopos.calls import refuse_in_training
from loopos.config import ModelConfig
from loopos.hf.classes import SCORE
from loopos.hf.linears import Linear, linears

from . import merge
from .alone import Alone
from .base import Base
from .files import read_labels
from .kept import Kept
from .kinds import SPECS, kind_in, kind_of
from .lora import LoRA
from .modulated import Modulated, Modulation
from .parts import Part


class Adaptable:
    """At most one adapter at a time. While it is on, the base is frozen."""

    config: ModelConfig
    dtype: str
    weights: str
    lock: Any
    _core: Any
    _training: bool
    _folder: str | None = None
    _adapter: LoRA | Modulated | None = None
    _parts: tuple[Part | Modulation, ...] = ()
    _beside: Mapping[str, np.ndarray] = {}  # what learns_beside names, as it was when the adapter came

    with_labels: Callable[[Sequence[str]], Any]
    head: Callable[[], tuple[Any, ...]]
    take_back: Callable[[tuple[Any, ...]], None]

    @property
    def adapter(self) -> LoRA | Modulated | None:
        """What :meth:`add_adapter` was given or :meth:`load_adapter` found; None when there is no adapter."""
        return self._adapter

    @property
    def adapter_parts(self) -> tuple[Part | Modulation, ...]:
        """The adapter as the core has it."""
        return self._parts

    @property
    def folder(self) -> str | None:
        """Where :meth:`from_pretrained` read the weights; None of a model that came from no folder."""
        return self._folder

    def learns_beside(self) -> dict[str, tuple[int, ...]]:
        """The shapes, by name, of the model's own parameters that learn with an adapter: of the head of classes."""
        return {SCORE: (self.config.num_labels, self.config.d_model)} if self.config.labels else {}

    def adapter_parameters(self) -> dict[str, np.ndarray]:
        """Writable views of the adapter's matrices by name, of a classifier its head too; none without an adapter."""
        if self._adapter is None:
            return {}
        names = {name for part in self._parts for name in part.parameters} | set(self.learns_beside())
        return {name: view for name, view in self._core.parameters().items() if name in names}

    @property
    def model_type(self) -> str | None:
        """Of the Hugging Face folder that it came from, which tells its family; None of a model that came from none."""
        source = getattr(self, "source", None)
        return None if source is None else source.settings.get("model_type")

    def linears(self) -> list[Linear]:
        """The matrices that a low-rank adapter can stand on, in the order of execution."""
        return linears(self.config, self.model_type)

    def refuse_adapter(self, function: str) -> None:
        """ValueError while an adapter is on."""
        if self._adapter is not None:
            merges = "" if kind_of(self._adapter).unmergeable else "merge_adapter() puts it into the weights, "
            raise ValueError(
                f"{function}: the model has an adapter, for which this kind of file has no place; {merges}"
                "save_adapter(folder) writes it alone"
            )

    def add_adapter(self, spec: LoRA | Modulated, *, seed: int = 0) -> None:
        """Puts low-rank matrices beside the projections that a :class:`LoRA` names, or a modulation into every block
        (:class:`Modulated`); they alone are trainable from now on, and of a classifier its head.

        seed: of their first values, with which the model computes what it did before (a modulated one, nearly so: its
        added part is small, not nothing). ValueError for a target that the model does not have, or where there is an
        adapter already. After an exception the model is as it was."""
        if not isinstance(spec, SPECS):
            raise TypeError(f"Model.add_adapter: spec must be a LoRA or a Modulated, got {checks.shown(spec)}")
        seed, kind = checks.integer("Model.add_adapter", "seed", seed, low=0, high=2**64 - 1), kind_of(spec)
        with self.lock:
            self._refuse_busy("add_adapter")
            with self._putting_on(spec, kind.parts_of("Model.add_adapter", spec, self)):
                kind.first_values(self._parts, self, seed)

    def put_on(self, spec: LoRA | Modulated, parts: Sequence[Part | Modulation]) -> None:
        """``spec`` by its parts; the values of its matrices are still to come."""
        kind_of(spec).put_on(self._core, spec, parts)
        self._adapter, self._parts = spec, tuple(parts)

    @contextmanager
    def _putting_on(self, spec: LoRA | Modulated, parts: Sequence[Part | Modulation]) -> Iterator[None]:
        """Inside, the matrices of ``spec`` get their values; an exception there takes it off again."""
        self.put_on(spec, parts)
        views = self._core.parameters()
        self._beside = {name: views[name].copy() for name in self.learns_beside()}
        try:
            yield
        except BaseException:
            self._take_off()
            raise

    def put_on_again(self, values: Mapping[str, np.ndarray] | None = None, frozen: Iterable[str] = ()) -> None:
        """On a core that is new, the adapter that was on the old one: with its ``values``, of which ``frozen`` stay so;
        None: they are still to come."""
        if self._adapter is None:
            return
        self.put_on(self._adapter, self._parts)
        if values is not None:
            views = self._core.parameters()
            self._beside = {name: views[name].copy() for name in self.learns_beside()}
            for name, view in self.adapter_parameters().items():
                if name in values:
                    view[...] = values[name]
                    self._core.set_trainable(name, name not in frozen)

    def _refuse_busy(self, method: str) -> None:
        refuse_in_training(self, f"Model.{method}")
        if self._adapter is not None:
            merge = "" if kind_of(self._adapter).unmergeable else "merge_adapter() or "
            raise ValueError(
                f"Model.{method}: the model has an adapter already, {self._adapter}; {merge}remove_adapter() first"
            )

    def _require_adapter(self, method: str) -> None:
        refuse_in_training(self, f"Model.{method}")
        if self._adapter is None:
            raise ValueError(f"Model.{method}: the model has no adapter; add_adapter or load_adapter first")

    def remove_adapter(self) -> None:
        """Takes the adapter off: its matrices are gone, and the model is the base again, as trainable as it was before;
        a classifier's head has the numbers that it had before. ValueError when there is none."""
        with self.lock:
            self._require_adapter("remove_adapter")
            self._take_off()

    def _take_off(self, keep: bool = False) -> None:
        """keep: what learned beside it stays as it is."""
        self._core.remove_adapter()
        views = self._core.parameters()
        for name, before in {} if keep else self._beside.items():
            views[name][...] = before
        self._adapter, self._parts, self._beside = None, (), {}

    def merge_adapter(self, *, limit: float = merge.LIMIT) -> merge.Merge:
        """Folds the adapter into the weights, summed in float64 and rounded once, and takes it off.

        Returns how far the logits of fixed random ids moved, which is rounding alone. ValueError, and nothing is
        changed, when that is more than ``limit`` of the largest logit, or when the base is stored small."""
        limit = checks.real("Model.merge_adapter", "limit", limit, low=0)
        with self.lock:
            self._require_adapter("merge_adapter")
            merge.refuse(self._adapter, self.weights)
            ids = merge.probe(self.config)
            before = self._core.forward(ids, None)
            with merge.put_into(self._parts, self._core.parameters()):
                self._core.adapter_enabled(False)
                try:
                    moved = self._core.forward(ids, None).astype(np.float64) - before
                finally:
                    self._core.adapter_enabled(True)
                done = merge.Merge(float(np.abs(moved).max()), float(np.abs(before).max()), limit)
                if not done.relative <= limit:  # NaN too
                    raise ValueError(
                        f"merge_adapter: nothing was merged: {done}, and the limit is {limit:g}; the sums are rounded "
                        f"to {self.dtype}, so open the base with dtype='float64', or give another limit"
                    )
            self._take_off(keep=True)
            return done

    def save_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Writes the adapter alone in PEFT's layout (adapter_config.json, adapter_model.safetensors), which peft opens
        on the base in transformers. A modulated one, which PEFT does not have, is in a layout of LoopOS under the same
        names. ValueError when there is none."""
        with self.lock:
            self._require_adapter("save_adapter")
            kind_of(self._adapter).write(Path(folder), self)

    def load_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Puts on the adapter that :meth:`save_adapter` or peft wrote, trainable. With the adapter of a classifier a
        model without classes is given their head. A setting that is not supported: ValueError naming it; tensors that
        are not of this base: CheckpointError. The model is then as it was."""
        with self.lock:
            self._refuse_busy("load_adapter")
            with self._with_classes(read_labels(Path(folder))):
                found = kind_in(Path(folder)).read(Path(folder), self)
                with self._putting_on(found.spec, found.parts):
                    self.fill_adapter(found.arrays)

    @contextmanager
    def _with_classes(self, labels: Sequence[str]) -> Iterator[None]:
        """Gives a model without classes a head of these, whose values are still to come; an exception inside gives the
        old head back."""
        before, config = self.head(), self.config
        if labels and not self.config.labels:
            self.with_labels(labels)
        try:
            yield
        except BaseException:
            if config is not self.config:
                self.take_back(before)
            raise

    def adapt_as(self, found: Kept | Alone) -> None:
        """Puts on the adapter that a checkpoint, or a folder of its own, holds. ValueError where this is known to be
        another base than its."""
        if isinstance(found, Alone):
            return self.load_adapter(found.folder)
        with self.lock:
            self._refuse_busy("load_adapter")
            with self._with_classes(found.labels):
                found.check(Base.of(self), "from_pretrained")
                with self._putting_on(found.spec, kind_of(found.spec).parts_of("from_pretrained", found.spec, self)):
                    self.fill_adapter(found.arrays)

    def fill_adapter(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copies values in, all or nothing. ValueError listing names or shapes that are not the adapter's."""
        views = self.adapter_parameters()
        theirs, ours = ({name: array.shape for name, array in each.items()} for each in (arrays, views))
        if theirs != ours:
            wrong = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
            raise ValueError(f"these are not the matrices of {self._adapter}: they differ in {', '.join(wrong[:6])}")
        for name, view in views.items():
            view[...] = arrays[name]
