"""The tensors of one model.safetensors, as parameters in the wanted dtype."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.files.tensorfile import Tensor

from .weights import BUFFERS, EMBEDDING, PREFIX, layout

HEAD = "lm_head.weight"


def parameters_from(
    path: Path, config: ModelConfig, family: str, tensors: dict[str, Tensor], dtype: str | None
) -> dict[str, np.ndarray]:
    """Parameters by LoopOS name, in LoopOS order, owned by the caller.

    tensors: by name in the file. path is for the messages.
    """
    tensors = _canonical(tensors, family)
    if config.n_layer > len(tensors):  # before anything of the size of n_layer is made
        what = f"{len(tensors)} tensors cannot make up the {config.n_layer} layers of config.json"
        raise CheckpointError(path, what)
    slots = list(layout(config, family))
    shapes = {source: shape for slot in slots for source, shape in slot.file_shapes()}
    duplicate = {HEAD: shapes[EMBEDDING[family]]} if config.tie_embeddings and HEAD in tensors else {}
    _match(path, {**shapes, **duplicate}, {name: tensor.array.shape for name, tensor in tensors.items()})
    stored, dtype = _dtypes(path, Counter(tensor.dtype for tensor in tensors.values()), dtype)
    if duplicate and tensors[HEAD].array.tobytes() != tensors[EMBEDDING[family]].array.tobytes():
        what = f"{HEAD} differs from {EMBEDDING[family]}, though config.json ties them (tie_word_embeddings)"
        raise CheckpointError(path, what)
    arrays = {name: tensor.array for name, tensor in tensors.items()}
    return {slot.name: cast(path, slot.name, _wide(slot.join(arrays), stored), dtype) for slot in slots}


def _wide(array: np.ndarray, stored: str) -> np.ndarray:
    """BF16 is the upper half of a float32."""
    return (array.astype(np.uint32) << 16).view(np.float32) if stored == "BF16" else array


def _canonical(tensors: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """With the names the whole model saves, whether or not the file has the prefix, and without constant buffers."""
    prefix = PREFIX[family]
    if not any(name.startswith(prefix) for name in tensors):
        tensors = {name if name == HEAD else prefix + name: tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in tensors.items() if not BUFFERS[family].fullmatch(name)}


def _match(path: Path, expected: dict[str, tuple[int, ...]], got: dict[str, tuple[int, ...]]) -> None:
    """CheckpointError listing what is missing, unexpected or of another shape."""
    missing = [name for name in expected if name not in got]
    unexpected = [name for name in got if name not in expected]
    other = [f"{n} is {got[n]}, expected {expected[n]}" for n in expected if n in got and got[n] != expected[n]]
    parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
    wrong = [f"{len(names)} {what}: {_listed(names)}" for what, names in parts if names]
    if wrong:
        raise CheckpointError(path, "the tensors are not those of config.json; " + "; ".join(wrong))


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _dtypes(path: Path, kinds: Counter, dtype: str | None) -> tuple[str, str]:
    """The one dtype of the file and the one to convert to."""
    native = {"F32": "float32", "F64": "float64"}
    if len(kinds) != 1:
        found = ", ".join(f"{count} of {kind}" for kind, count in sorted(kinds.items()))
        raise CheckpointError(path, f"the weights must share one dtype, got {found}")
    (stored,) = kinds
    if stored not in {*native, "F16", "BF16"}:
        raise CheckpointError(path, f"the weights must be F64, F32, F16 or BF16, got {stored}")
    if dtype is None and stored not in native:
        raise ValueError(
            f"from_pretrained: {path} holds {stored}, in which LoopOS does not compute; pass dtype='float32' or "
            "dtype='float64' (both are exact)"
        )
    return stored, dtype or native[stored]


def cast(path: Path, name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """``array`` as a fresh array of ``dtype``: exact when it widens, rounded to nearest when it narrows."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # looked at right below
        result = array.astype(dtype)
    lost = np.isinf(result) & np.isfinite(array)
    if lost.any():
        index = tuple(int(i) for i in np.argwhere(lost)[0])
        raise ValueError(
            f"from_pretrained: {path}: {name}{list(index)} = {array[index]!r} is beyond the range of {dtype}; "
            "load it with dtype='float64'"
        )
    return result
