"""The part of a Model that holds an adapter."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks, precision
from loopos.config import ModelConfig
from loopos.hf.linears import Linear, linears, naming

from . import merge, modulated, modulated_folder, peft
from .base import Base
from .kept import SPECS, Kept
from .lora import LoRA
from .modulated import Modulated, Modulation
from .parts import Part, first_values, parts_of
from .targets import choose


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

    def adapter_parameters(self) -> dict[str, np.ndarray]:
        """Writable views of the adapter's matrices by name; none without one."""
        names = {name for part in self._parts for name in part.parameters}
        return {name: view for name, view in self._core.parameters().items() if name in names}

    def refuse_adapter(self, function: str) -> None:
        """ValueError while an adapter is on."""
        if self._adapter is not None:
            merges = "" if isinstance(self._adapter, Modulated) else "merge_adapter() puts it into the weights, "
            raise ValueError(
                f"{function}: the model has an adapter, for which this kind of file has no place; {merges}"
                "save_adapter(folder) writes it alone"
            )

    def _linears(self) -> list[Linear]:
        return linears(self.config, self._model_type())

    def _model_type(self) -> str | None:
        source = getattr(self, "source", None)
        return None if source is None else source.settings.get("model_type")

    def add_adapter(self, spec: LoRA | Modulated, *, seed: int = 0) -> None:
        """Puts low-rank matrices beside the projections that a :class:`LoRA` names, or a modulation into every block
        (:class:`Modulated`); they alone are trainable from now on.

        seed: of their first values, with which the model computes what it did before (a modulated one, nearly so: its
        added part is small, not nothing). ValueError for a target that the model does not have, or where there is an
        adapter already. After an exception the model is as it was."""
        if not isinstance(spec, tuple(SPECS.values())):
            raise TypeError(f"Model.add_adapter: spec must be a LoRA or a Modulated, got {checks.shown(spec)}")
        seed = checks.integer("Model.add_adapter", "seed", seed, low=0, high=2**64 - 1)
        with self.lock:
            self._refuse_busy("add_adapter")
            with self._putting_on(spec, self._parts_of("Model.add_adapter", spec)):
                if isinstance(spec, Modulated):
                    modulated.first_values(self._parts, self._core.parameters(), seed)
                else:
                    first_values(self._parts, self._core.parameters(), self._rows_of, seed)

    def _parts_of(self, where: str, spec: LoRA | Modulated) -> list[Any]:
        if isinstance(spec, Modulated):
            return modulated.modulations_of(spec, self.config.n_layer)
        return parts_of(spec, choose(where, self._linears(), spec.targets))

    def put_on(self, spec: LoRA | Modulated, parts: Sequence[Part | Modulation]) -> None:
        """``spec`` by its parts; the values of its matrices are still to come."""
        if isinstance(spec, Modulated):
            self._core.add_modulation(**spec.to_dict())
        else:
            self._core.add_adapter([part.for_core() for part in parts])
        self._adapter, self._parts = spec, tuple(parts)

    @contextmanager
    def _putting_on(self, spec: LoRA | Modulated, parts: Sequence[Part | Modulation]) -> Iterator[None]:
        """Inside, the matrices of ``spec`` get their values; an exception there takes it off again."""
        self.put_on(spec, parts)
        try:
            yield
        except BaseException:
            self._take_off()
            raise

    def put_on_again(self) -> None:
        """In a copy, whose core is new: its values and what is frozen are still to come."""
        if self._adapter is not None:
            self.put_on(self._adapter, self._parts)

    def _refuse_busy(self, method: str) -> None:
        if self._training:
            raise RuntimeError(f"Model.{method}: loopos.train is training this model; call it before train or after it")
        if self._adapter is not None:
            first = (
                "remove_adapter()" if isinstance(self._adapter, Modulated) else "merge_adapter() or remove_adapter()"
            )
            raise ValueError(f"Model.{method}: the model has an adapter already, {self._adapter}; {first} first")

    def _require_adapter(self, method: str) -> None:
        if self._training:
            raise RuntimeError(f"Model.{method}: loopos.train is training this model; call it before train or after it")
        if self._adapter is None:
            raise ValueError(f"Model.{method}: the model has no adapter; add_adapter or load_adapter first")

    def _rows_of(self, part: Part) -> np.ndarray:
        name = f"{part.projection}.weight"
        if precision.small(self.weights):
            return self._core.load_stored(name, part.first, part.rows)
        return self._core.parameters()[name][part.first : part.first + part.rows]

    def remove_adapter(self) -> None:
        """Takes the adapter off: its matrices are gone, and the model is the base again, as trainable as it was before.
        ValueError when there is none."""
        with self.lock:
            self._require_adapter("remove_adapter")
            self._take_off()

    def _take_off(self) -> None:
        self._core.remove_adapter()
        self._adapter, self._parts = None, ()

    def merge_adapter(self, *, limit: float = merge.LIMIT) -> merge.Merge:
        """Folds the adapter into the weights, summed in float64 and rounded once, and takes it off.

        Returns how far the logits of fixed random ids moved, which is rounding alone. ValueError, and nothing is
        changed, when that is more than ``limit`` of the largest logit, or when the base is stored small."""
        limit = checks.real("Model.merge_adapter", "limit", limit, low=0)
        with self.lock:
            self._require_adapter("merge_adapter")
            merge.refuse_modulated(self._adapter)
            merge.refuse_small(self.weights)
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
            self._take_off()
            return done

    def save_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Writes the adapter alone in PEFT's layout (adapter_config.json, adapter_model.safetensors), which peft opens
        on the base in transformers. A modulated one, which PEFT does not have, is in a layout of LoopOS under the same
        names. ValueError when there is none."""
        with self.lock:
            self._require_adapter("save_adapter")
            if isinstance(self._adapter, Modulated):
                views = self._core.parameters()
                return modulated_folder.write(Path(folder), self._adapter, self._parts, views, self.folder)
            every = self._linears()
            names = {part.name for part in self._parts}
            chosen = [each for each in every if each.name in names]
            transposed = naming(self.config, self._model_type())[0].transposed
            own = self._core.parameters()
            peft.write(Path(folder), self._adapter, every, chosen, own, base=self.folder, transposed=transposed)

    def load_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Puts on the adapter that :meth:`save_adapter` or peft wrote, trainable. A setting that is not supported:
        ValueError naming it; tensors that are not of this base: CheckpointError. The model is then as it was."""
        with self.lock:
            self._refuse_busy("load_adapter")
            if modulated_folder.holds_one(Path(folder)):
                sizes = self.config.n_layer, self.config.d_model
                found = modulated_folder.read(Path(folder), *sizes, self.dtype)
                parts = self._parts_of("load_adapter", found.spec)
            else:
                found = peft.read(Path(folder), self._linears(), self.dtype)
                parts = parts_of(found.spec, found.chosen)
            with self._putting_on(found.spec, parts):
                self.fill_adapter(found.arrays)

    def adapt_as(self, found: Kept) -> None:
        """Puts on the adapter that a checkpoint holds. ValueError where this is known to be another base than its."""
        with self.lock:
            self._refuse_busy("load_adapter")
            found.check(Base.of(self), "from_pretrained")
            with self._putting_on(found.spec, self._parts_of("from_pretrained", found.spec)):
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
