"""What the weights of a model are stored as, and which combinations of storage and arithmetic make sense.

One place decides it: the model, the command line and training ask here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import _core, checks
from .config import ModelConfig
from .errors import Birth, NonFiniteError

SMALL = ("bfloat16", "int8")  # frozen; what is computed with them is float32
WEIGHTS = ("float32", *SMALL, "int4")
# Sixteenths of a byte that a number takes, with its gradient where it can be trained.
SIXTEENTHS = {"float32": 16 * 8, "float64": 16 * 16, "bfloat16": 16 * 2, "int8": 17}
ONLY_ADAPTERS = (
    "the weights of this model are stored as {} and frozen, so only adapters can be trained on it, and it has none; to "
    "train the weights, open the model with weights='float32'"
)


def resolve(function: str, weights: str | None, dtype: str) -> str:
    """What the weights of a model of ``dtype`` are stored as: ``weights``, or the dtype itself for None. ValueError for
    a combination that makes no sense."""
    if weights is None:
        return dtype
    weights = checks.choice(function, "weights", weights, WEIGHTS)
    if weights == "int4":
        raise ValueError(f"{function}: weights='int4' is not there yet; the smallest storage is weights='int8'")
    if dtype != "float32":
        raise ValueError(
            f"{function}: weights={weights!r} goes with dtype='float32', got dtype={dtype!r}: what is stored small has "
            "no digits that float64 arithmetic could keep. Leave weights out for a float64 model"
        )
    return weights


def arithmetic(weights: str | None, dtype: str | None) -> str | None:
    """The dtype to open a model with: a storage is asked for in terms of float32, whatever the file holds."""
    return "float32" if dtype is None and weights is not None else dtype


def small(weights: str) -> str | None:
    """The small storage, or None for a model whose weights are parameters."""
    return weights if weights in SMALL else None


def said(weights: str) -> str:
    """In the repr of a model."""
    return f", weights={weights!r}" if small(weights) else ""


def refuse_training(function: str, model: Any) -> None:
    """ValueError for a model whose weights are stored small, as long as nothing of it is trainable."""
    weights = getattr(model, "weights", "float32")
    if small(weights) and not model.parameters(trainable=True):
        refuse_small(function, weights)


def refuse_small(function: str, weights: str) -> None:
    if small(weights):
        raise ValueError(f"{function}: {ONLY_ADAPTERS.format(weights)}")


def for_folder(function: str, core: Any, weights: str) -> dict[str, np.ndarray]:
    """What a folder of the model holds: the bits (uint16) of one stored as bfloat16, where its parameters (norms and
    the like, which are float32) have no digits beyond these; else as :func:`to_save`."""
    plain = core.parameters()
    if weights != "bfloat16" or any(np.any(view.view(np.uint32) & 0xFFFF) for view in plain.values()):
        return to_save(function, core, weights)
    shapes = {each["name"]: each["shape"] for each in core.stored()}

    def upper_halves(name: str) -> np.ndarray:
        wide = plain[name] if name in plain else core.load_stored(name, 0, shapes[name][0])
        return (wide.view(np.uint32) >> 16).astype(np.uint16)

    return {name: upper_halves(name) for name in core.names()}


def to_save(function: str, core: Any, weights: str) -> dict[str, np.ndarray]:
    """Every weight of the model in its dtype: bfloat16 becomes float32, exactly. ValueError for int8."""
    if weights == "int8":
        raise ValueError(
            f"{function}: the weights of this model are stored as int8, and what is saved would hold what that left of "
            "the numbers. Open the original with weights='bfloat16' or 'float32' and save that"
        )
    return all_weights(core)


def refuse_oversized(config: ModelConfig, weights: str) -> None:
    """MemoryError before anything is allocated. Exact integers here: these sizes may exceed what C++ can hold."""
    per_block = 8192  # names, shapes and layers of one block, whatever its width
    size = config.num_parameters() * SIXTEENTHS[weights] // 16 + per_block * config.n_layer
    available = _core.available_bytes()
    if size > available:
        raise MemoryError(
            f"Model: weights and gradients of this configuration take {size} bytes, and {available:.0f} bytes are "
            f"available; check n_layer {config.n_layer}, d_model {config.d_model}, d_ff {config.d_ff}, vocab_size "
            f"{config.vocab_size}, context_length {config.context_length}"
        )


def fill(core: Any, name: str, pieces: Iterable[tuple[int, np.ndarray]]) -> None:
    """Stores the weight ``name`` of a model's core from pieces (first row, rows): the whole need never be in memory.

    NonFiniteError names a NaN or an infinite number, ValueError one that is beyond the range of the storage."""
    for first, rows in pieces:
        at = core.store(name, first, rows)
        if at < 0:
            continue
        row, column = divmod(at, rows.shape[1])
        value, index = float(rows[row, column]), (first + row, column)
        kind = next(each["storage"] for each in core.stored() if each["name"] == name)
        what = f"{name}{list(index)} is {value!r}, which cannot be stored as {kind}"
        if np.isfinite(value):
            raise ValueError(f"weights={kind!r}: {what}: it is beyond its range; open the model with weights='float32'")
        layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
        cause = "weight not finite: it was not finite when it was about to be stored"
        birth = Birth(None, "forward", layer, "parameter", name, index, value, cause)
        raise NonFiniteError(birth, f"weights={kind!r}: {what}. {birth}")


def fill_all(core: Any, mapped: Any) -> None:
    """Reads every weight of a model out of a folder (``loopos.hf.Weights``)."""
    for each in core.stored():
        fill(core, each["name"], mapped.rows(each["name"]))
    for name, view in core.parameters().items():
        mapped.into(name, view)


def fill_from(core: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stores what is stored small out of ``arrays``; gives the rest."""
    small = [each["name"] for each in core.stored()]
    for name in small:
        fill(core, name, [(0, arrays[name])])
    return {name: array for name, array in arrays.items() if name not in small}


def errors(core: Any) -> dict[str, dict[str, Any]]:
    """By the name of each weight that is stored small: its storage, bytes, the largest |stored - given| and the root of
    sum (stored - given)^2 / sum given^2."""
    return {
        each["name"]: {
            "storage": each["storage"],
            "bytes": each["bytes"],
            "largest": each["largest_error"],
            "relative": each["relative_error"],
        }
        for each in core.stored()
    }


def state(core: Any) -> dict[str, Any]:
    """The bytes of what is stored small, for a copy of the model; :func:`put_back` takes them."""
    return {each["name"]: core.get_stored(each["name"]) for each in core.stored()}


def put_back(core: Any, kept: Mapping[str, Any]) -> None:
    for name, each in kept.items():
        core.set_stored(name, each)


def all_weights(core: Any) -> dict[str, np.ndarray]:
    """Every weight by name, in the order of execution: views of the parameters, and what is stored small as float32."""
    views = core.parameters()
    shapes = {each["name"]: each["shape"] for each in core.stored()}
    return {n: views[n] if n in views else core.load_stored(n, 0, shapes[n][0]) for n in core.names()}
