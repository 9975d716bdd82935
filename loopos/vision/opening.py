"""Folders out of which a captioner or an encoder of pictures comes, whichever of the two it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.run_folder import holds_checkpoint, load_checkpoint
from loopos.network import SETTINGS

from .captioner import Captioner
from .encoder import ImageEncoder
from .network import Network

_MARKS = {"encoder": Captioner, "patch_size": ImageEncoder}  # a field of the configuration that the others have not
MAX_CONFIG_BYTES = 1 << 24
_SAVED = {kind.__name__: kind for kind in (Captioner, ImageEncoder)}


def kind_of_config(config: Any) -> type[Network] | None:
    """Of a configuration as a checkpoint keeps it; None: of a language model."""
    return next((kind for mark, kind in _MARKS.items() if isinstance(config, Mapping) and mark in config), None)


def open_pictures(folder: str | os.PathLike[str], precision: str | None = None) -> Captioner | ImageEncoder | None:
    """The model of a run, of a checkpoint, of what ``save`` wrote, or of a folder of transformers' ViT; None where it
    is of another kind, or nothing is there. CheckpointError for weights or a checkpoint that are malformed; a
    config.json that cannot be read counts as none."""
    path = Path(folder) / SETTINGS
    if path.is_file():
        values = _settings(path)
        if values.get("loopos") in _SAVED:
            return _SAVED[values["loopos"]].load(folder, precision=precision)
        return ImageEncoder.from_pretrained(folder, precision=precision) if values.get("model_type") == "vit" else None
    if not holds_checkpoint(folder):
        return None
    kind = kind_of_config(load_checkpoint(folder).state.get("config"))
    return None if kind is None else kind.load(folder, precision=precision)


def class_names(folder: str | os.PathLike[str], count: int) -> tuple[str, ...]:
    """The names of the classes that config.json of a ViT gives; "class 0" and so on where there is none."""
    path = Path(folder) / SETTINGS
    told = _settings(path).get("id2label") if path.is_file() else None
    named = told if isinstance(told, Mapping) else {}
    return tuple(str(named.get(str(k), f"class {k}")) for k in range(count))


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        values = durable.load_json(path, MAX_CONFIG_BYTES)
    except CheckpointError:
        return {}
    return values if isinstance(values, Mapping) else {}
