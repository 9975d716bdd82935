"""Folders of a modulated adapter: adapter_config.json and adapter_model.safetensors, as PEFT's are called, in a layout
of LoopOS. PEFT has no such adapter; its readers refuse the folder by its ``peft_type``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loopos.checks import shown
from loopos.errors import CheckpointError
from loopos.hf.folder import refuse_nonfinite
from loopos.hf.tensors import NATIVE, cast

from . import files
from .files import SETTINGS, WEIGHTS
from .modulated import A_PROJ, Modulated, modulations_of

KIND = "LOOPOS_MODULATED"  # what stands as peft_type
VERSION = 1
_ABOUT = ("peft_type", "version", "base_model_name_or_path")


class Read(NamedTuple):
    """arrays: by the names of parameters."""

    spec: Modulated
    arrays: dict[str, np.ndarray]


def holds_one(folder: Path) -> bool:
    """Whether the adapter in ``folder`` is one of these. What is no JSON object is left for others to refuse."""
    if not (folder / SETTINGS).is_file():
        return False
    settings = files.read_settings(folder)
    return isinstance(settings, dict) and settings.get("peft_type") == KIND


def write(
    folder: Path,
    spec: Modulated,
    parameters: Mapping[str, np.ndarray],
    *,
    base: str | None,
    labels: Sequence[str] = (),
) -> None:
    """Both files together or none. parameters: of the adapter, by name. base: the folder of the model it stands on.
    labels: of the head of classes, where that is among them. NonFiniteError for a number that is NaN or infinite."""
    refuse_nonfinite("save_adapter", parameters)
    settings = {"peft_type": KIND, "version": VERSION, "base_model_name_or_path": base, **spec.to_dict()}
    files.write(folder, settings, {name: np.ascontiguousarray(view) for name, view in parameters.items()}, labels)


def read(
    folder: Path, n_layer: int, width: int, dtype: str, beside: Mapping[str, tuple[int, ...]] | None = None
) -> Read:
    """The adapter in ``folder`` for a model of ``n_layer`` blocks of ``width`` channels, widened or rounded to
    ``dtype``. beside: the shapes of what learns with it, by name. FileNotFoundError where a file is missing;
    CheckpointError for one that is malformed or belongs to another model."""
    path, file = folder / SETTINGS, folder / WEIGHTS
    settings = files.read_settings(folder)
    if settings.get("version") != VERSION:
        raise CheckpointError(path, f"version {shown(settings.get('version'))}; this LoopOS reads {VERSION}")
    try:
        spec = Modulated.from_dict({name: value for name, value in settings.items() if name not in _ABOUT})
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, str(error)) from None
    tensors = files.read_tensors(folder)
    expected = {**_shapes(spec, n_layer, width), **(beside or {})}
    got = {name: tensor.array.shape for name, tensor in tensors.items()}
    if wrong := sorted(name for name in {*expected, *got} if expected.get(name) != got.get(name)):
        first = wrong[0]
        raise CheckpointError(
            file,
            f"{first} is {got.get(first, 'missing')}, and a model of {n_layer} blocks of {width} channels needs "
            f"{expected.get(first, 'no such tensor')} (and {len(wrong) - 1} more): the adapter belongs to another base",
        )
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in NATIVE:
            raise CheckpointError(file, f"{name} must be F64 or F32, got {tensor.dtype}")
        arrays[name] = cast(file, name, tensor.array, dtype)
    return Read(spec, arrays)


def _shapes(spec: Modulated, n_layer: int, width: int) -> dict[str, tuple[int, ...]]:
    names = [name for part in modulations_of(spec, n_layer) for name in part.parameters]
    return {name: (spec.rank, width) if name.endswith(A_PROJ) else (width, spec.rank) for name in names}
