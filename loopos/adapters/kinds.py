"""What each kind of adapter has of its own: its parts on a model, their first values, its folder. All else about
adapters is the same for every kind; a new one is a class here and a row of KINDS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from loopos import precision
from loopos.hf.linears import naming

from . import modulated, modulated_folder, parts, patterns, peft
from .lora import LoRA
from .modulated import Modulated, Modulation
from .parts import Part
from .targets import choose


class Found(NamedTuple):
    """An adapter in a folder. arrays: by the names of parameters."""

    spec: Any
    parts: Sequence[Any]
    arrays: dict[str, np.ndarray]


class Kind(ABC):
    """name: in a checkpoint and on the command line. spec: what people write. part: of it, on a model.
    unmergeable: why the weights of a model cannot stand for it, "" where they can."""

    name: ClassVar[str]
    spec: ClassVar[Any]
    part: ClassVar[type]
    unmergeable: ClassVar[str] = ""

    @abstractmethod
    def parts_of(self, where: str, spec: Any, model: Any) -> Sequence[Any]:
        """Those of ``spec`` on ``model``. ValueError, which begins with ``where``, for what the model does not have."""

    @abstractmethod
    def put_on(self, core: Any, spec: Any, parts: Sequence[Any]) -> None:
        """Their matrices, still without values, into the core."""

    @abstractmethod
    def first_values(self, parts: Sequence[Any], model: Any, seed: int) -> None:
        """Writes them into the matrices on ``model``."""

    @abstractmethod
    def write(self, folder: Path, model: Any) -> None:
        """That of ``model``, both files or none. NonFiniteError for a number that is NaN or infinite."""

    @abstractmethod
    def read(self, folder: Path, model: Any) -> Found:
        """That in ``folder``, for ``model``. FileNotFoundError, ValueError for a setting that is not supported,
        CheckpointError for a malformed file and for matrices of another base."""


class _LowRank(Kind):
    name, spec, part = "lora", LoRA, Part

    def parts_of(self, where: str, spec: LoRA, model: Any) -> Sequence[Part]:
        chosen = choose(where, model.linears(), spec.targets)
        patterns.refuse_idle(where, {name: getattr(spec, name) for name in patterns.NAMES}, chosen)
        return parts.parts_of(spec, chosen)

    def put_on(self, core: Any, spec: LoRA, parts: Sequence[Part]) -> None:
        core.add_adapter([part.for_core() for part in parts])

    def first_values(self, own: Sequence[Part], model: Any, seed: int) -> None:
        core, views = model._core, model._core.parameters()

        def rows_of(part: Part) -> np.ndarray:
            name = f"{part.projection}.weight"
            if precision.small(model.weights):
                return core.load_stored(name, part.first, part.rows)
            return views[name][part.first : part.first + part.rows]

        parts.first_values(own, views, rows_of, seed)

    def write(self, folder: Path, model: Any) -> None:
        every, names = model.linears(), {part.name for part in model.adapter_parts}
        chosen = [each for each in every if each.name in names]
        transposed = naming(model.config, model.model_type)[0].transposed
        own = model.adapter_parameters()
        about = {"base": model.folder, "transposed": transposed, "labels": model.config.labels}
        peft.write(folder, model.adapter, every, chosen, own, **about)

    def read(self, folder: Path, model: Any) -> Found:
        found = peft.read(folder, model.linears(), model.dtype, model.learns_beside())
        return Found(found.spec, parts.parts_of(found.spec, found.chosen), found.arrays)


class _Modulated(Kind):
    name, spec, part = "modulated", Modulated, Modulation
    unmergeable = (
        "a modulated adapter has no place in the weights: what it does to a token depends on what attention gave "
        "there; save_adapter(folder) writes it beside the base"
    )

    def parts_of(self, where: str, spec: Modulated, model: Any) -> Sequence[Modulation]:
        return modulated.modulations_of(spec, model.config.n_layer)

    def put_on(self, core: Any, spec: Modulated, parts: Sequence[Modulation]) -> None:
        core.add_modulation(**spec.to_dict())

    def first_values(self, parts: Sequence[Modulation], model: Any, seed: int) -> None:
        modulated.first_values(parts, model._core.parameters(), seed)

    def write(self, folder: Path, model: Any) -> None:
        about = {"base": model.folder, "labels": model.config.labels}
        modulated_folder.write(folder, model.adapter, model.adapter_parameters(), **about)

    def read(self, folder: Path, model: Any) -> Found:
        config = model.config
        found = modulated_folder.read(folder, config.n_layer, config.d_model, model.dtype, model.learns_beside())
        return Found(found.spec, self.parts_of("", found.spec, model), found.arrays)


LOW_RANK, MODULATED = _LowRank(), _Modulated()
KINDS: dict[str, Kind] = {kind.name: kind for kind in (LOW_RANK, MODULATED)}
SPECS = tuple(kind.spec for kind in KINDS.values())


def kind_of(spec: Any) -> Kind:
    """Of what is one of SPECS."""
    return next(kind for kind in KINDS.values() if isinstance(spec, kind.spec))


def kind_in(folder: Path) -> Kind:
    """Of the adapter in ``folder``; that of PEFT for one that is none of these."""
    return MODULATED if modulated_folder.holds_one(folder) else LOW_RANK
