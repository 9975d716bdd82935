"""Arguments as JSON and tensors, without a line of code: what a bundle holds of the inputs of a call.

Tensors lie beside the JSON under a name; of a layout that is not contiguous the order of its axes is kept, because a
product of a transposed matrix may have other bits. What is no tensor, number, text or container of them becomes
``{"unknown": type}`` and cannot be called with again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from loopos.errors import CheckpointError

_BITS = {torch.bfloat16: torch.int16}  # numpy has none of them
_PLAIN = (torch.dtype, torch.device, torch.layout, torch.memory_format)
_MAX_DEPTH = 8


class Encoder:
    """``arrays`` grows with every tensor that is encoded."""

    def __init__(self, arrays: dict[str, np.ndarray], prefix: str):
        self._arrays, self._prefix = arrays, prefix
        self.whole = True  # nothing was unknown

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, _PLAIN):
            return {"torch": str(value).removeprefix("torch."), "of": type(value).__name__}
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return {"hex": value.hex()}
        if depth < _MAX_DEPTH and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self(each, depth + 1) for key, each in value.items()}}
        if depth < _MAX_DEPTH and isinstance(value, (list, tuple)):
            return {"tuple" if isinstance(value, tuple) else "list": [self(each, depth + 1) for each in value]}
        self.whole = False
        return {"unknown": type(value).__name__}

    def _tensor(self, tensor: torch.Tensor) -> dict[str, Any]:
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
        if tensor.layout is not torch.strided or tensor.dtype not in DTYPES.values():
            self.whole = False
            return {"unknown": f"tensor of {tensor.dtype}, {tensor.layout}"}
        order = sorted(range(tensor.ndim), key=lambda axis: (-tensor.stride(axis), axis))
        name = f"{self._prefix}.{len(self._arrays)}"
        self._arrays[name] = to_array(tensor.permute(order).contiguous())
        return {"tensor": name, "dtype": str(tensor.dtype).removeprefix("torch."), "order": order}


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Its numbers for a file: a complex one as pairs, bfloat16 as its bits."""
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.view(_BITS.get(tensor.dtype, tensor.dtype)).numpy()


def to_tensor(array: np.ndarray, dtype: str) -> torch.Tensor:
    """The inverse; ValueError when the array cannot be of that dtype."""
    kind = DTYPES.get(dtype)
    if kind is None:
        raise ValueError(f"no dtype of a tensor: {dtype!r}")
    tensor = torch.from_numpy(np.array(array))  # a copy: the file's bytes cannot be written
    if kind.is_complex:
        tensor = torch.complex(tensor[..., 0], tensor[..., 1])
    elif kind in _BITS:
        tensor = tensor.view(kind)
    if tensor.dtype != kind:
        raise ValueError(f"expected numbers of {dtype}, got {tensor.dtype}")
    return tensor


DTYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


def decode(value: Any, arrays: Mapping[str, np.ndarray], path: Any = "bundle") -> Any:
    """The arguments again. CheckpointError for what an Encoder did not write, or could not."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if not isinstance(value, dict):
        raise CheckpointError(path, f"no argument: {value!r:.80}")
    if "hex" in value:
        return float.fromhex(value["hex"])
    if "tensor" in value:
        order = value["order"]
        tensor = to_tensor(arrays[value["tensor"]], value["dtype"])
        if sorted(order) != list(range(tensor.ndim)):
            raise CheckpointError(path, f"{value['tensor']}: no order of its axes: {order}")
        return tensor.permute([order.index(axis) for axis in range(tensor.ndim)])
    if "torch" in value:
        return _named(value, path)
    if "dict" in value:
        return {key: decode(each, arrays, path) for key, each in value["dict"].items()}
    for kind, make in (("tuple", tuple), ("list", list)):
        if kind in value:
            return make(decode(each, arrays, path) for each in value[kind])
    raise CheckpointError(path, f"an argument could not be kept: {value.get('unknown', value)!r:.80}")


def _named(value: Mapping[str, Any], path: Any) -> Any:
    name, kind = str(value["torch"]), str(value.get("of"))
    if kind == "device":
        return torch.device("cpu")  # wherever it was: a bundle is opened on any machine
    found = getattr(torch, name, None) if name.isidentifier() else None
    if type(found).__name__ != kind or not isinstance(found, _PLAIN):
        raise CheckpointError(path, f"no {kind} of PyTorch: {name!r}")
    return found
