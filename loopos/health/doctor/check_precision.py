"""What the doctor asks of a precision: what products of bfloat16 pieces change on this model and this batch.

One pass at each precision, of which nothing differs but how the factors of products are taken; loss, and norm and
direction of each layer's gradient, beside those of float32. A gradient that is turned by 5 degrees still has 0.996 of
its length in the direction of float32's, and another batch turns it by tens of degrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from loopos import _core
from loopos.errors import NonFiniteError
from loopos.model import Model
from loopos.precision import PRECISIONS
from loopos.run.gate import layer_of

from .patient import IN_PLACE, NotApplicable, Patient
from .report import FAIL, OK, WARN, Check

TURNED = 5.0  # degrees by which no layer's gradient may be turned
MOVED = 0.01  # of the loss, or nats where it is below 1
ALIKE = 1e-3  # of a gradient's length; below it nobody will tell the two runs apart
_CHUNK = 1 << 20


class Turn(NamedTuple):
    """A layer's gradient beside the one of float32: its norm, the difference's over that of float32's, the angle."""

    norm: float
    relative: float
    degrees: float

    def to_dict(self) -> dict[str, float]:
        cosine = math.cos(math.radians(self.degrees))
        return {"norm": self.norm, "relative": self.relative, "cosine": cosine, "degrees": self.degrees}


class Change(NamedTuple):
    """What a precision makes of a batch whose float32 loss is ``before``."""

    loss: float
    before: float
    layers: dict[str, Turn]

    @property
    def moved(self) -> float:
        return abs(self.loss - self.before)

    @property
    def turned(self) -> str:
        """The layer whose gradient is turned the most."""
        return max(self.layers, key=lambda layer: self.layers[layer].degrees)

    @property
    def relative(self) -> float:
        return max(turn.relative for turn in self.layers.values())

    @property
    def nothing(self) -> bool:
        return self.moved == 0 and self.relative == 0

    @property
    def alike(self) -> bool:
        return self.relative <= ALIKE and self.moved <= ALIKE * max(1.0, abs(self.before))

    @property
    def usable(self) -> bool:
        turned = self.layers[self.turned].degrees
        return turned <= TURNED and self.moved <= MOVED * max(1.0, abs(self.before))

    def to_dict(self) -> dict[str, Any]:
        norm = math.hypot(*(turn.norm for turn in self.layers.values()))
        layers = {name: turn.to_dict() for name, turn in self.layers.items()}
        return {"loss": self.loss, "loss_change": self.loss - self.before, "gradient_norm": norm, "layers": layers}


def check_precision(patient: Patient) -> Iterator[Check]:
    """One line. The quick round looks only at a precision that the run asks for, on models that are not large."""
    if not isinstance(patient.model, Model):
        raise NotApplicable("the model is not LoopOS's, so neither are its products")
    asked = patient.model.precision
    names = [asked] if patient.quick else [each for each in PRECISIONS if each != "float32"]
    if patient.quick and (asked == "float32" or patient.size > IN_PLACE):
        return
    if patient.model.dtype != "float32":
        raise NotApplicable("products of a float64 model are float64 under every precision")
    products = _core.products_info()
    if products["chosen"] == "fma":
        raise NotApplicable(
            f"{products['why']}: products of every precision are float32 here, so there is nothing to gain and nothing "
            "to lose. LOOPOS_PRODUCTS=emulated loopos doctor measures what tiles would change"
        )
    figures, changes, broken = _measure(patient, names)
    yield judge(asked, changes, broken, figures, emulated=products["chosen"] == "emulated")


def judge(
    asked: str,
    changes: Mapping[str, Change],
    broken: Mapping[str, str],
    figures: dict[str, Any],
    emulated: bool = False,
) -> Check:
    """The line. asked: the precision of the run; broken: of precisions at which the batch is not finite, where it
    becomes so."""
    told = [in_words(name, change) for name, change in changes.items()]
    told += [f"{name} is not finite where float32 is ({birth}): leave it" for name, birth in broken.items()]
    measured = "; ".join(told) + (" (tiles emulated)" if emulated else "")
    expected = f"gradients within {TURNED:g} degrees of float32's, the loss within {MOVED:.0%}"
    if asked in broken or (asked in changes and not changes[asked].usable):
        better = "bf16x3" if asked == "bf16" and ("bf16x3" not in changes or changes["bf16x3"].usable) else "float32"
        advice = f"train with precision={better!r}"
        return Check("precision", measured, expected, FAIL if asked in broken else WARN, advice, figures)
    return Check("precision", measured, expected, OK, figures=figures)


def in_words(name: str, change: Change) -> str:
    """What a precision changes, and what to do with it."""
    if change.nothing:
        return f"{name} changes not a bit: no product of this batch is large enough for tiles, so it gains nothing"
    loss = f"{name} changes the loss by {change.moved:.0e}" if change.moved else f"{name} leaves the loss as it is"
    if change.alike:
        return f"{loss} and no layer's gradient by more than {change.relative:.0e} of it: use it"
    layer = change.turned
    turned = f"{loss} and turns the gradient of {layer} by {change.layers[layer].degrees:.2g} degrees"
    if change.usable:
        return f"{turned}, no other by more: use it where speed counts, and compare held-out losses"
    return f"{turned}: leave it"


def _measure(patient: Patient, names: list[str]) -> tuple[dict[str, Any], dict[str, Change], dict[str, str]]:
    """(the figures for JSON, what each precision changes, where those that are not finite become so)."""
    before, reference = _gradients(patient, "float32")
    own = compare(reference, reference)
    if not own:
        raise NotApplicable("every gradient is 0")
    norm = math.hypot(*(turn.norm for turn in own.values()))
    figures: dict[str, Any] = {"float32": {"loss": before, "gradient_norm": norm}}
    changes: dict[str, Change] = {}
    broken: dict[str, str] = {}
    for name in names:
        try:
            loss, gradients = _gradients(patient, name)
        except NonFiniteError as error:
            broken[name], figures[name] = str(error.birth), {"birth": str(error.birth)}
            continue
        changes[name] = Change(loss, before, compare(reference, gradients))
        figures[name] = changes[name].to_dict()
    return figures, changes, broken


@contextmanager
def computed_in(model: Model, precision: str) -> Iterator[None]:
    """Inside, the model's products have this precision; afterwards the one that it had. In a run's own round before its
    first update too, where nobody else may set it."""
    before = model.arithmetic
    model._compute_in(before.with_precision("computed_in", precision))
    try:
        yield
    finally:
        model._compute_in(before)


def _gradients(patient: Patient, precision: str) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradients of the patient's batch at this precision."""
    with patient.model.lock, computed_in(patient.model, precision):
        if patient.task is not None:
            return patient.task.compute(patient.batch)
        return patient.model.loss_and_grads(*patient.batch)


def compare(reference: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]) -> dict[str, Turn]:
    """By layer: a block, or a part outside them. Layers without a gradient are left out."""
    sums: dict[str, np.ndarray] = {}
    for name, one in reference.items():
        block = layer_of(name)
        layer = name.rpartition(".")[0] or name if block is None else f"blocks.{block}"
        sums[layer] = sums.get(layer, 0.0) + _sums(one.reshape(-1), gradients[name].reshape(-1))
    return {layer: _turn(*map(float, each)) for layer, each in sums.items() if each[0] > 0}


def _sums(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(squares of the first, of the second, of their difference), in float64."""
    total = np.zeros(3)
    for start in range(0, len(one), _CHUNK):
        x, y = (part[start : start + _CHUNK].astype(np.float64) for part in (one, two))
        total += np.vdot(x, x), np.vdot(y, y), np.vdot(y - x, y - x)
    return total


def _turn(one: float, two: float, apart: float) -> Turn:
    """The angle from the difference of the two unit vectors, which a cosine near 1 would lose."""
    a, b = math.sqrt(one), math.sqrt(two)
    if b == 0:
        return Turn(0.0, 1.0, 90.0)
    chord = math.sqrt(max(0.0, apart - (b - a) ** 2) / (a * b))
    return Turn(b, math.sqrt(apart) / a, math.degrees(2 * math.asin(min(1.0, chord / 2))))
