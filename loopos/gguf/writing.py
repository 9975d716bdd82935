"""A GGUF file out of a model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks, hf, storage
from loopos.config import ModelConfig
from loopos.files import durable
from loopos.model import Model

from . import architectures, tensors, tokens
from .container import TYPES
from .values import package

KINDS = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}  # by the number that general.file_type has
Q8_BLOCK = 32
_HALF_MAX = float(np.finfo(np.float16).max)


def write(model: Model, path: str | os.PathLike[str], type: str = "f16") -> None:
    """Write a model, its tokenizer and its chat template into a GGUF file, durably and in one step (extra [gguf]).

    type: of the matrices, "f32", "f16", "bf16" or "q8_0"; vectors are float32. A row that is not whole blocks of q8_0
    is f16, as llama.cpp does. ValueError for a configuration or a tokenizer that llama.cpp has no name for, or a number
    beyond the type's range; NonFiniteError for one that is not finite; OSError when the file cannot be written."""
    gguf = package()
    if not isinstance(model, Model):
        raise TypeError(f"gguf.write: model must be a Model, got {checks.shown(model)}")
    kind = checks.choice("gguf.write", "type", type, tuple(KINDS))
    model.refuse_adapter("gguf.write")
    model.refuse_classes("gguf.write")
    architecture = architectures.architecture_of(model.config)
    with model.lock:
        arrays = storage.to_save("gguf.write", model._core, model.arithmetic)
        hf.refuse_nonfinite("gguf.write", arrays)
        aside = durable.beside(path, "tmp")
        durable.make_folder(Path(path).absolute().parent)
        try:
            _write(gguf, model, arrays, architecture, aside, kind, Path(path).stem)
            with durable.explained("put the finished file in its place", path):
                os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
    durable.sync_folder(Path(path).absolute().parent)


def _write(
    gguf: Any,
    model: Model,
    arrays: Mapping[str, np.ndarray],
    architecture: architectures.Architecture,
    path: Path,
    kind: str,
    name: str,
) -> None:
    """The file, tensor by tensor: what is packed for it is never held as a whole."""
    types = gguf.GGUFValueType
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(KINDS[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in architectures.metadata_of(model.config, architecture).items():
        kind_of = {int: types.UINT32, float: types.FLOAT32, str: types.STRING}[value.__class__]
        writer.add_key_value(f"{architecture.name}.{key}", value, kind_of)
    for key, value in tokens.metadata_of(model).items():
        writer.add_key_value(key, *_typed(types, value))
    stored = dict(_tensors(model.config, arrays, architecture, kind))
    for tensor, (array, packed) in stored.items():
        block = next(block for block in TYPES.values() if block.name == packed)
        size = array.size // block.numbers * block.bytes
        writer.add_tensor_info(tensor, array.shape, np.dtype(np.float32), size, gguf.GGMLQuantizationType[packed])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, (array, packed) in stored.items():
            writer.write_tensor_data(_packed(gguf, tensor, array, packed))
        for file in writer.fout:
            file.flush()
            os.fsync(file.fileno())
    finally:
        writer.close()


def _typed(types: Any, value: Any) -> tuple[Any, Any]:
    """A metadatum of the tokenizer with its type: numbers of tokens are unsigned, their types signed."""
    if isinstance(value, list):
        return value, types.ARRAY
    return value, {bool: types.BOOL, int: types.UINT32, str: types.STRING}[type(value)]


def _tensors(
    config: ModelConfig, arrays: Mapping[str, np.ndarray], architecture: architectures.Architecture, kind: str
) -> Iterator[tuple[str, tuple[np.ndarray, str]]]:
    """Every tensor of the file by name: its numbers as LoopOS has them, or as little else as possible, and its type."""
    for slot in tensors.slots(config, architecture):
        start = 0
        for part in slot.parts:
            array = arrays[slot.name][start : start + part.rows]
            if part.heads:
                array = tensors.pairs_from_halves(array, part.heads)
            if part.shift:
                array = array + np.asarray(part.shift, array.dtype)
            yield part.name, (array, _stored(array, kind))
            start += part.rows
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type == "llama3":
        yield tensors.ROPE_FACTORS, (architectures.rope_factors(config), "F32")


def _stored(array: np.ndarray, kind: str) -> str:
    if array.ndim < 2 or kind == "f32":
        return "F32"
    return "F16" if kind == "q8_0" and array.shape[-1] % Q8_BLOCK else kind.upper()


def _packed(gguf: Any, name: str, array: np.ndarray, stored: str) -> np.ndarray:
    """The bytes of a tensor. A number beyond the range of its type: ValueError."""
    largest = _HALF_MAX if stored == "F16" else 127 * _HALF_MAX if stored == "Q8_0" else float(np.finfo(np.float32).max)
    if np.abs(array).max(initial=0) > largest:
        raise ValueError(f"gguf.write: a number of {name} is beyond the range of {stored}; take another type")
    with np.errstate(under="ignore"):
        wide = np.ascontiguousarray(array, np.float32)
        if stored == "F32":
            return wide
        return gguf.quants.quantize(wide, gguf.GGMLQuantizationType[stored])
