"""The two files of an adapter's folder, as PEFT calls them: its settings and its matrices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loopos.files import durable
from loopos.files.tensorfile import Tensor, parse_safetensors, serialize_safetensors
from loopos.hf.folder import ADAPTER, MAX_CONFIG_BYTES, replace_together

SETTINGS, WEIGHTS = ADAPTER, "adapter_model.safetensors"


def read_settings(folder: Path) -> Any:
    """adapter_config.json, whatever JSON it is. FileNotFoundError, CheckpointError."""
    return durable.load_json(folder / SETTINGS, MAX_CONFIG_BYTES)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """By their names in the file. FileNotFoundError, CheckpointError."""
    file = folder / WEIGHTS
    return parse_safetensors(durable.read_bytes(file), file)[0]


def write(folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Both files or none, durably. OSError."""
    durable.make_folder(folder)
    contents = {
        WEIGHTS: serialize_safetensors(tensors, {"format": "pt"}),
        SETTINGS: durable.dump_json(settings, indent=2) + b"\n",
    }
    replace_together(folder, contents)
