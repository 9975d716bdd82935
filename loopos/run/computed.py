"""What the bits of a run depend on besides its numbers: kept with its checkpoints, and compared when one goes on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

from loopos import _core
from loopos.errors import CheckpointError
from loopos.precision import PRECISIONS, Arithmetic, same_bits, why_no_tiles

from .checkpoint import Checkpoint
from .settings import TrainSettings


def in_precision(settings: TrainSettings, model: Any, checkpoint: Checkpoint | None = None) -> TrainSettings:
    """The settings with the precision of the run: what was asked for; else that of the ``model``, or, where a
    configuration is given and a model is still to be built, that of the ``checkpoint`` or the usual one. ValueError for
    one that does not go with the dtype, CheckpointError where the checkpoint's is no name of one."""
    asked, of = settings.precision, getattr(model, "arithmetic", None)
    if of is None:
        state = {} if checkpoint is None else checkpoint.state
        if asked is None and checkpoint is not None:
            asked = state.get("precision", "float32")
            if asked not in PRECISIONS:
                raise CheckpointError(checkpoint.path, f"state.json has a precision {asked!r}, which is none")
        of = Arithmetic.of("train", state.get("dtype", "float32"), None, asked)
    elif asked is not None:
        of = of.with_precision("train", asked)
    return replace(settings, precision=of.precision)


def compute_in(model: Any, precision: str | None, undo: ExitStack) -> None:
    """Sets the model's precision; ``undo`` puts the one before back."""
    if precision is not None and model.precision != precision:
        undo.callback(setattr, model, "precision", model.precision)
        model.precision = precision


class Computed(NamedTuple):
    """isa: the instruction set. precision: of the products, as it was asked for. products: what they are computed with,
    "fma", "tiles bf16x3" and the like, which may be better than asked."""

    isa: str
    precision: str
    products: str

    @classmethod
    def of(cls, model: Any) -> Computed:
        """Of a model in this process."""
        return cls(str(_core.isa()), model.precision, model.products)

    @classmethod
    def recorded(cls, state: Mapping[str, Any]) -> Computed:
        """Of the state of a checkpoint. One that was written before there were precisions has float32 products."""
        usual = "float64" if state.get("dtype") == "float64" else "fma"
        parts = state.get("isa"), state.get("precision", "float32"), state.get("products", usual)
        return cls(*map(str, parts))

    def is_here(self) -> bool:
        """Whether this process computes the same bits in this precision."""
        return self.isa == str(_core.isa()) and (
            self.products == "float64" or same_bits(self.products, str(_core.products(self.precision)))
        )

    def from_those(self, checkpoint: Checkpoint) -> list[str]:
        """A sentence for each part by which the bits of a run that goes on from ``checkpoint`` in this process differ
        from those of one that was not stopped."""
        there, found = Computed.recorded(checkpoint.state), []
        if self.isa != there.isa:
            found.append(
                f"train: the checkpoint was written on instruction set {there.isa}, this process uses {self.isa}: the "
                "run goes on, but bits agree only up to rounding (LOOPOS_ISA chooses)"
            )
        if self.precision != there.precision:
            if same_bits(self.products, there.products):
                then = "as they were, and the products have the bits that they had"
            else:
                then = f"where they were {there.products}, and its bits will differ from those of a run without a stop"
            found.append(
                f"train: precision is {self.precision!r} here, {there.precision!r} in {checkpoint.path}: the run goes "
                f"on with products as {self.products}, {then}"
            )
        elif not same_bits(self.products, there.products):
            why = why_no_tiles()
            found.append(
                f"train: the products of {checkpoint.path} were computed with {there.products}, this process computes "
                f"precision {self.precision!r} with {self.products}{f' ({why})' if why else ''}: the run goes on, but "
                "its bits will differ from those of a run without a stop (LOOPOS_PRODUCTS chooses)"
            )
        return found
