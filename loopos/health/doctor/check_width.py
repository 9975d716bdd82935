"""What the doctor asks of widths: do activations keep their size when a model gets wider?

The coordinate check of Yang et al. 2022 (arXiv:2203.03466, appendix D.1): small models of the run's family at a few
widths, looked at before and after a few updates with the run's own optimizer and rate. With weights and rates as they
usually are, what Adam's updates add grows about as the width does, so a rate that is right for a narrow model is too
large for a wide one. That is no fault while the run's own width is far from where it matters, and then not warned of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from loopos.adapters.whole import Whole
from loopos.errors import NonFiniteError

from .patient import Batches, NotApplicable, Patient, layers_like
from .report import OK, WARN, Check
from .stream import stream

WIDTHS = (32, 64, 128)
STEPS, ROWS, BLOCKS, HEAD = 4, 4, 2, 16
GROWS = 20.0  # times as large, at the run's width: no healthy run of those that were tried comes near
RISES = 0.1  # exponent of the width from which a growth is one with the width


def coordinates(patient: Patient) -> Check:
    """How large the stream is by width: after the last block to before the first, and after some updates to before."""
    name, width = "width", getattr(patient.config, "d_model", None)
    if width is None or not hasattr(patient.config, "n_layer"):
        raise NotApplicable("the model has no config to build others of its kind from")
    before, after = zip(*(_sizes(patient, each) for each in WIDTHS), strict=True)
    expected = f"at most {GROWS:g} times at this width of {width}, where it grows with the width"
    first, firsts = at_width(before, width)
    rate, wide = patient.settings["learning_rate"], ", ".join(map(str, WIDTHS))
    measured = f"through {BLOCKS} blocks the stream grows by {_listed(before)} at widths {wide}, before any update"
    if first >= GROWS and firsts > RISES:
        advice = "activations grow with the width: the weights' scale must fall with it, as 1 / sqrt(inputs)"
        return Check(name, f"{measured}: about {first:.3g} at {width}", expected, WARN, advice)
    if rate == 0:
        return Check(name, measured, expected, OK)
    then, rise = at_width(after, width)
    measured = (
        f"{STEPS} updates at learning_rate {rate:g} make it {_listed(after)} times as large at widths {wide}: about "
        f"{then:.3g} at {width}"
    )
    if then >= GROWS and rise > RISES:
        advice = "a rate that suits a narrow model is too large for this width: for Adam lower it as 1 / width"
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)


def at_width(sizes: Sequence[float], width: int) -> tuple[float, float]:
    """(what sizes at WIDTHS come to at ``width``, the exponent of the width by which they grow). Not less than at the
    widths themselves where the width lies among them."""
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        return math.inf, math.inf
    exponent = float(np.polyfit(np.log(WIDTHS), np.log(sizes), 1)[0])
    nearest = min(range(len(WIDTHS)), key=lambda i: abs(math.log(WIDTHS[i] / width)))
    return sizes[nearest] * (width / WIDTHS[nearest]) ** exponent, exponent


def _sizes(patient: Patient, width: int) -> tuple[float, float]:
    """(size of the stream after the last block over that before the first, the most that updates make of any), of a
    model of this width; infinite where a number is not finite."""
    model = patient.sibling("float32", warm=False, **_shape(patient.config, width))
    rng = np.random.default_rng(3)
    shape = ROWS, model.config.context_length
    ids, targets = rng.integers(0, model.config.vocab_size, (2, *shape))
    before = [_size(layer) for layer in _layers(patient, model, ids)]
    first = before[-1] / before[0] if before[0] > 0 else math.inf
    if patient.settings["learning_rate"] == 0:
        return first, 1.0
    try:
        patient.take_steps(model, Batches([[(ids, targets)]]), STEPS)
    except NonFiniteError:
        return first, math.inf
    after = [_size(layer) for layer in _layers(patient, model, ids)]
    return first, max((y / x for x, y in zip(before, after, strict=True) if x > 0), default=math.inf)


def _shape(config: Any, width: int) -> dict[str, Any]:
    heads = width // HEAD
    return {
        "n_layer": BLOCKS,
        "n_head": heads,
        "n_kv_head": heads if config.n_kv_head == config.n_head else 1,
        "d_model": width,
        "d_ff": max(1, round(width * config.d_ff / config.d_model)),
        "dropout": 0.0,
        **layers_like(config, BLOCKS),
    }


def _layers(patient: Patient, model: Any, ids: np.ndarray) -> list[np.ndarray]:
    if hasattr(model, "activations"):
        return model.activations(ids)
    if patient.plain:
        return stream(model.config, Whole(model), ids)[0]
    raise NotApplicable("the model shows no activations: give it activations(ids)")


def _size(layer: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.square(layer, dtype=np.float64))))


def _listed(sizes: Sequence[float]) -> str:
    return ", ".join(f"{size:.3g}" for size in sizes)
