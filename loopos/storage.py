"""The weights of a model that are stored small: filled, read, copied, saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import _core
from .config import ModelConfig
from .errors import Birth, NonFiniteError
from .precision import Arithmetic


def for_folder(function: str, core: Any, arithmetic: Arithmetic) -> dict[str, np.ndarray]:
    """What a folder of the model holds: the bits (uint16) of one stored as bfloat16, where its parameters (norms and
    the like, which are float32) have no digits beyond these; else as :func:`to_save`."""
    plain = core.parameters()
    if arithmetic.weights != "bfloat16" or any(np.any(view.view(np.uint32) & 0xFFFF) for view in plain.values()):
        return to_save(function, core, arithmetic)
    shapes = {each["name"]: each["shape"] for each in core.stored()}

    def upper_halves(name: str) -> np.ndarray:
        wide = plain[name] if name in plain else core.load_stored(name, 0, shapes[name][0])
        return (wide.view(np.uint32) >> 16).astype(np.uint16)

    return {name: upper_halves(name) for name in core.names()}


def to_save(function: str, core: Any, arithmetic: Arithmetic) -> dict[str, np.ndarray]:
    """Every weight of the model in its dtype: bfloat16 becomes float32, exactly. ValueError for fewer bits."""
    arithmetic.refuse_saving(function)
    return all_weights(core)


def refuse_oversized(config: ModelConfig, arithmetic: Arithmetic) -> None:
    """MemoryError before anything is allocated."""
    per_block = 8192  # names, shapes and layers of one block, whatever its width
    size = arithmetic.bytes(config) + per_block * config.n_layer
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
            raise ValueError(f"{what}: it is beyond its range; open the model with weights='float32'")
        layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
        cause = "weight not finite: it was not finite when it was about to be stored"
        birth = Birth(None, "forward", layer, "parameter", name, index, value, cause)
        raise NonFiniteError(birth, f"{what}. {birth}")


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
