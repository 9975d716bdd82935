"""The two files of an adapter's folder, as PEFT calls them: its settings and its matrices."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.tensorfile import Tensor, parse_safetensors, serialize_safetensors
from loopos.hf.classes import SCORE
from loopos.hf.folder import ADAPTER, MAX_CONFIG_BYTES, replace_together

SETTINGS, WEIGHTS = ADAPTER, "adapter_model.safetensors"
LABELS = "labels"  # in the metadata of WEIGHTS: the names of the classes, as JSON, where the adapter has their head


def read_settings(folder: Path) -> Any:
    """adapter_config.json, whatever JSON it is. FileNotFoundError, CheckpointError."""
    return durable.load_json(folder / SETTINGS, MAX_CONFIG_BYTES)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """By their names in the file. FileNotFoundError, CheckpointError."""
    file = folder / WEIGHTS
    return parse_safetensors(durable.read_bytes(file), file)[0]


def read_labels(folder: Path) -> tuple[str, ...]:
    """The names of the classes whose head is kept with the adapter: those that were written, or as transformers calls
    them, LABEL_0, ...; () of an adapter without one. FileNotFoundError, CheckpointError."""
    file = folder / WEIGHTS
    if not file.exists():
        return ()
    tensors, metadata = parse_safetensors(durable.read_bytes(file), file)
    heads = [tensor for name, tensor in tensors.items() if f".{name}".endswith(f".{SCORE}")]
    if not heads or heads[0].array.ndim != 2:
        return ()
    count = len(heads[0].array)
    if LABELS not in metadata:
        return tuple(f"LABEL_{number}" for number in range(count))
    try:
        labels = tuple(json.loads(metadata[LABELS]))
    except (ValueError, TypeError):
        labels = ()
    if len(labels) != count or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(file, f"its metadata must name {count} classes, got {metadata[LABELS][:80]!r}")
    return labels


def write(
    folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], labels: Sequence[str] = ()
) -> None:
    """Both files or none, durably. labels: of the head of classes that is among ``tensors``. OSError."""
    durable.make_folder(folder)
    metadata = {"format": "pt"} | ({LABELS: json.dumps(list(labels))} if labels else {})
    contents = {
        WEIGHTS: serialize_safetensors(tensors, metadata),
        SETTINGS: durable.dump_json(settings, indent=2) + b"\n",
    }
    replace_together(folder, contents)
