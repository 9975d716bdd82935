"""The folder of an adapter alone, as Model.save_adapter and peft write it, and the folder of the model it stands on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NamedTuple

from loopos.checks import shown
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.hf import is_pretrained
from loopos.hf.folder import ADAPTER, MAX_CONFIG_BYTES


class Alone(NamedTuple):
    """base: what adapter_config.json says of the model: a folder, a name on the Hugging Face hub, or None."""

    folder: Path
    base: str | None

    def place(self, named: Any) -> Path:
        """The folder of the base: the one that was ``named``, or the one that the adapter names. FileNotFoundError when
        there is none."""
        if named is not None:
            return Path(named)
        if self.base is not None and os.path.isdir(self.base):
            return Path(self.base)
        which = "names no model" if self.base is None else f"is one of {shown(self.base)}, which is no folder here"
        raise FileNotFoundError(
            errno.ENOENT,
            f"the adapter {which}: name the folder of its base, Model.from_pretrained(adapter, base=FOLDER) or --base "
            "FOLDER on the command line",
            str(self.folder),
        )


def alone(folder: Path) -> Alone | None:
    """What ``folder`` holds where that is an adapter and no model; else None. CheckpointError when its
    adapter_config.json cannot be read."""
    path = folder / ADAPTER
    if is_pretrained(folder) or not path.is_file():
        return None
    settings = durable.load_json(path, MAX_CONFIG_BYTES)
    if not isinstance(settings, dict):
        raise CheckpointError(path, f"expected an object of settings, got {shown(settings)}")
    base = settings.get("base_model_name_or_path")
    return Alone(folder, base if isinstance(base, str) and base else None)
