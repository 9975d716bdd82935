"""Folders of a modulated adapter: adapter_config.json and adapter_model.safetensors, as PEFT's are called, in a layout
of LoopOS. PEFT has no such adapter; its readers refuse the folder by its ``peft_type``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos.checks import shown
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.tensorfile import parse_safetensors, serialize_safetensors
from loopos.hf.folder import ADAPTER, MAX_CONFIG_BYTES, refuse_nonfinite, replace_together
from loopos.hf.tensors import NATIVE, cast

from .modulated import Modulated, Modulation, modulations_of

WEIGHTS = "adapter_model.safetensors"
KIND = "LOOPOS_MODULATED"  # what stands as peft_type
VERSION = 1
_ABOUT = ("peft_type", "version", "base_model_name_or_path")


class Read(NamedTuple):
    """arrays: by the names of parameters."""

    spec: Modulated
    arrays: dict[str, np.ndarray]


def holds_one(folder: Path) -> bool:
    """Whether the adapter in ``folder`` is one of these. What is no JSON object is left for others to refuse."""
    path = Path(folder) / ADAPTER
    if not path.is_file():
        return False
    settings = durable.load_json(path, MAX_CONFIG_BYTES)
    return isinstance(settings, dict) and settings.get("peft_type") == KIND


def write(
    folder: Path, spec: Modulated, parts: Sequence[Modulation], views: Mapping[str, np.ndarray], base: str | None
) -> None:
    """Both files together or none. base: the folder of the model it stands on. NonFiniteError for a number that is NaN
    or infinite."""
    own = {name: np.ascontiguousarray(views[name]) for part in parts for name in part.parameters}
    refuse_nonfinite("save_adapter", own)
    settings = {"peft_type": KIND, "version": VERSION, "base_model_name_or_path": base, **spec.to_dict()}
    durable.make_folder(Path(folder))
    contents = {
        WEIGHTS: serialize_safetensors(own, {"format": "pt"}),
        ADAPTER: durable.dump_json(settings, indent=2) + b"\n",
    }
    replace_together(Path(folder), contents)


def read(folder: Path, n_layer: int, width: int, dtype: str) -> Read:
    """The adapter in ``folder`` for a model of ``n_layer`` blocks of ``width`` channels, widened or rounded to
    ``dtype``. FileNotFoundError where a file is missing; CheckpointError for one that is malformed or belongs to
    another model."""
    path, file = Path(folder) / ADAPTER, Path(folder) / WEIGHTS
    settings = durable.load_json(path, MAX_CONFIG_BYTES)
    if settings.get("version") != VERSION:
        raise CheckpointError(path, f"version {shown(settings.get('version'))}; this LoopOS reads {VERSION}")
    try:
        spec = Modulated.from_dict({name: value for name, value in settings.items() if name not in _ABOUT})
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, str(error)) from None
    tensors, _ = parse_safetensors(durable.read_bytes(file), file)
    expected = _shapes(spec, n_layer, width)
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
    parts: Sequence[Modulation] = modulations_of(spec, n_layer)
    down: Any = (spec.rank, width)
    return {
        name: down if name.endswith(".A_proj") else (width, spec.rank) for part in parts for name in part.parameters
    }
