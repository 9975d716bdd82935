"""The files that hold a folder's weights: one, or several and an index that says which tensor is where."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from loopos.checks import shown
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.mapped import MappedTensor, map_safetensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 << 20
_SHOWN = 5  # names in a message


class Stored(NamedTuple):
    """tensors: by name in the file. path: of the file, or of the index, for messages about all of them."""

    tensors: dict[str, MappedTensor]
    path: Path


def open_weights(folder: Path) -> Stored:
    """The tensors of a folder, mapped: of model.safetensors where there is one, else of the files that
    model.safetensors.index.json names.

    Raises FileNotFoundError where there is neither, CheckpointError for files that are malformed, absent, outside of
    the folder, or that do not hold what the index says.
    """
    if (folder / WEIGHTS).exists():
        return Stored(map_safetensors(folder / WEIGHTS), folder / WEIGHTS)
    if (folder / INDEX).exists():
        return Stored(_sharded(folder), folder / INDEX)
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))
    if pickled:
        raise CheckpointError(
            folder,
            f"only pickled weights ({pickled[0]}), which run code when opened and are never read: save it again with "
            "model.save_pretrained(folder) of transformers",
        )
    what = "from_pretrained: the folder has no model.safetensors"
    raise FileNotFoundError(errno.ENOENT, what, str(folder / WEIGHTS))


def _sharded(folder: Path) -> dict[str, MappedTensor]:
    index = folder / INDEX
    places = _weight_map(index, durable.load_json(index, MAX_INDEX_BYTES))
    names = sorted(set(places.values()))
    absent = [name for name in names if not (folder / name).exists()]
    if absent:
        what = f"weight_map names files that the folder does not have: {_listed(absent)}; the download is incomplete"
        raise CheckpointError(index, what)
    files = {name: map_safetensors(folder / name) for name in names}
    counts = Counter(tensor for tensors in files.values() for tensor in tensors)
    if twice := [tensor for tensor, count in counts.items() if count > 1]:
        holders = [name for name, tensors in files.items() if twice[0] in tensors]
        what = f"tensors that are in two files: {_listed(twice)}; of the first: {_listed(holders)}"
        raise CheckpointError(index, what)
    held = {tensor: name for name, tensors in files.items() for tensor in tensors}
    elsewhere = [f"{tensor} of {name}" for tensor, name in places.items() if held.get(tensor) != name]
    if elsewhere:
        raise CheckpointError(index, f"tensors that are not in the file that weight_map names: {_listed(elsewhere)}")
    if unlisted := [f"{tensor} of {name}" for tensor, name in held.items() if tensor not in places]:
        raise CheckpointError(index, f"tensors that weight_map does not name: {_listed(unlisted)}")
    return {tensor: files[name][tensor] for tensor, name in places.items()}


def _weight_map(path: Path, values: Any) -> dict[str, str]:
    """The map from tensors to files of this folder."""
    places = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(places, dict) or not places:
        raise CheckpointError(path, "expected an object with weight_map, from the names of tensors to those of files")
    for tensor, name in places.items():
        plain = isinstance(name, str) and name.endswith(".safetensors") and not {"/", "\\", "\0"} & set(name)
        if not plain:
            what = f"the file of {shown(tensor)} must be a name in this folder that ends in .safetensors"
            raise CheckpointError(path, f"{what}, got {shown(name)}")
    return places


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
