"""The matrices of products inside the blocks as transformers knows them: what an adapter can stand on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loopos.config import ModelConfig

from .families import FAMILIES, Family
from .settings import family_of
from .slots import Names, Slot, layout


class Linear(NamedTuple):
    """module: its dotted name there. projection: that of LoopOS, whose rows first to first + rows are its own; name: of
    these rows here, which is the projection's where they are all of it. columns: of the input. heads: as of
    :class:`loopos.hf.slots.Slot`; 0 where the rows stand in the order of LoopOS."""

    module: str
    projection: str
    name: str
    first: int
    rows: int
    columns: int
    heads: int = 0

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """An array with a row (or number) for each of these rows, in the order of the file."""
        ((_, shape, view),) = self._slot(array).parts(array)
        return np.ascontiguousarray(view).reshape(shape)

    def from_file(self, array: np.ndarray) -> np.ndarray:
        """The same, back."""
        return self._slot(array).join({self.module: array})

    def _slot(self, array: np.ndarray) -> Slot:
        return Slot(self.name, array.shape, ((self.module, self.rows),), heads=self.heads)


def linears(config: ModelConfig, model_type: str | None = None) -> list[Linear]:
    """Of all blocks, in the order of execution. model_type: of the folder that the model came from. A configuration of
    no family has Llama's names where its feed-forward has a gate, else those of GPT-2."""
    found = []
    for slot in layout(config, naming(config, model_type)[0]):
        block = slot.name.startswith("blocks.") and slot.name.endswith(".weight") and len(slot.shape) == 2
        first = 0
        for source, rows in slot.sources if block else ():
            module, projection = source.removesuffix(".weight"), slot.name.removesuffix(".weight")
            room = projection.rpartition(".")[0]
            name = projection if len(slot.sources) == 1 else f"{room}.{module.rpartition('.')[2]}"
            found.append(Linear(module, projection, name, first, rows, slot.shape[1], slot.heads))
            first += rows
    return found


def naming(config: ModelConfig, model_type: str | None = None) -> tuple[Names, Family]:
    """The names of a configuration's tensors, and the family that they are of, or the next best."""
    try:
        family = FAMILIES[family_of(config, model_type)]
        return family.names, family
    except ValueError:  # of no family
        family = FAMILIES["llama" if config.gated else "gpt2"]
    own = {name: (name,) for each in FAMILIES.values() for name in each.names.modules}
    return Names(family.names.block, own | family.names.modules), family
