"""Metadata by name and type, and the numbers of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos.checks import shown
from loopos.errors import CheckpointError

from .container import Container, Stored

_NUMBERS = 1 << 22  # made wide at a time


class Metadata:
    """The metadata of a container, checked as they are taken. ``{arch}`` in a key is its architecture."""

    def __init__(self, container: Container):
        self.container = container
        self.arch = self.text("general.architecture")

    def _take(self, key: str, default: Any) -> tuple[str, Any]:
        key = key.replace("{arch}", getattr(self, "arch", ""))
        if key not in self.container.metadata:
            if default is REQUIRED:
                raise self.refuse(f"the metadatum {key} is missing")
            return key, default
        return key, self.container.metadata[key]

    def refuse(self, what: str) -> CheckpointError:
        return CheckpointError(self.container.path, what)

    def text(self, key: str, default: Any = ...) -> Any:
        key, value = self._take(key, default)
        if not isinstance(value, str) and value is not default:
            raise self.refuse(f"{key} must be a text, got {shown(value)}")
        return value

    def count(self, key: str, default: Any = ..., *, low: int = 1) -> Any:
        """An integer of at least ``low``; a list of equal ones, as some converters write for each layer, is one."""
        key, value = self._take(key, default)
        if value is default:
            return value
        if isinstance(value, np.ndarray) and value.size:
            if (value != value[0]).any():
                raise ValueError(f"{self.container.path}: {key} differs between layers, which is not supported")
            value = value[0].item()
        if type(value) is not int or value < low:
            raise self.refuse(f"{key} must be an integer of at least {low}, got {shown(value)}")
        return value

    def real(self, key: str, default: Any = ...) -> Any:
        """A finite number above 0. A float32 becomes the shortest number that rounds to it: 1e-05, not 9.999e-06."""
        key, value = self._take(key, default)
        if value is default:
            return value
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.refuse(f"{key} must be a finite number greater than 0, got {shown(value)}")
        with np.errstate(over="ignore"):
            short = np.float32(value)
        return float(str(short)) if float(short) == value else float(value)

    def flag(self, key: str, default: Any = ...) -> Any:
        key, value = self._take(key, default)
        if type(value) is not bool and value is not default:
            raise self.refuse(f"{key} must be true or false, got {shown(value)}")
        return value

    def texts(self, key: str, default: Any = ...) -> Any:
        key, value = self._take(key, default)
        if not isinstance(value, list) and value is not default:
            raise self.refuse(f"{key} must be a list of texts, got {shown(value)}")
        return value

    def numbers(self, key: str, default: Any = ...) -> Any:
        key, value = self._take(key, default)
        if not isinstance(value, np.ndarray) and value is not default:
            raise self.refuse(f"{key} must be a list of numbers, got {shown(value)}")
        return value


REQUIRED = ...


def read_into(container: Container, tensor: Stored, out: np.ndarray) -> None:
    """The numbers of a tensor, made wide some rows at a time, into ``out``, a float array of its shape."""
    flat = out.reshape(-1, tensor.shape[-1]) if out.flags.c_contiguous else None
    rows = max(1, _NUMBERS // tensor.shape[-1])
    made = flat if flat is not None else np.empty((out.size // tensor.shape[-1], tensor.shape[-1]), out.dtype)
    for first in range(0, len(made), rows):
        part = made[first : first + rows]
        part[...] = _wide(container.raw(tensor, first, len(part)), tensor.type.name)
    if flat is None:
        out[...] = made.reshape(out.shape)


def _wide(raw: np.ndarray, kind: str) -> np.ndarray:
    """Stored bytes (rows, bytes) as numbers (rows, columns)."""
    if kind == "F32":
        return raw.view("<f4")
    if kind == "F16":
        return raw.view("<f2")
    if kind == "BF16":  # the upper half of a float32
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found afterwards
        return package().quants.dequantize(raw, package().GGMLQuantizationType[kind])


def package() -> Any:
    """The gguf package. ImportError naming the extra."""
    try:
        import gguf
    except ImportError:
        raise ImportError("GGUF files need the package gguf; pip install 'loopos[gguf]'") from None
    return gguf
