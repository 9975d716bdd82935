"""A model out of a GGUF file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.model import Model

from . import architectures, tensors, vocabulary
from .container import Container, open_container
from .values import Metadata, package, read_into


def read(path: str | os.PathLike[str], *, dtype: str = "float32", precision: str | None = None) -> Model:
    """The model in a GGUF file, with its tokenizer and chat template (extra [gguf]). dtype, precision: as of Model.

    Quantized tensors become float32 numbers one after the other. OSError when the file cannot be read, CheckpointError
    when it is malformed or its tensors are not those of its architecture, ValueError for an architecture or a setting
    that is not supported, ImportError naming the extra."""
    package()
    container = open_container(path)
    if container.metadata.get("split.count", 1) not in (0, 1):
        raise ValueError(f"{path}: this is one of several files of a model; join them first (llama-gguf-split --merge)")
    metadata = Metadata(container)
    config = architectures.config_of(metadata)
    architecture = architectures.ARCHITECTURES[metadata.arch]
    _match(container, config, architecture)
    made = vocabulary.tokenizer_of(metadata, config.vocab_size)
    model = Model(config, dtype=dtype, precision=precision)
    views = model.parameters()
    for slot in tensors.slots(config, architecture):
        _fill(container, slot, views[slot.name])
    if made is not None:
        model.tokenizer = made
        model.stop_ids = vocabulary.stops_of(metadata)
    return model


def _fill(container: Container, slot: tensors.Slot, out: np.ndarray) -> None:
    start = 0
    for part in slot.parts:
        view = out[start : start + part.rows]
        read_into(container, container.tensors[part.name], view)
        if part.heads:
            view[...] = tensors.halves_from_pairs(view, part.heads)
        if part.shift:
            view -= np.asarray(part.shift, view.dtype)
        start += part.rows


def _match(container: Container, config: ModelConfig, architecture: architectures.Architecture) -> None:
    """CheckpointError listing the tensors that are missing, unexpected or of another shape."""
    expected = {
        part.name: (part.rows, *slot.shape[1:]) for slot in tensors.slots(config, architecture) for part in slot.parts
    }
    got = {name: tensor.shape for name, tensor in container.tensors.items() if name != tensors.ROPE_FACTORS}
    wrong: list[Any] = [f"{name} is missing" for name in expected if name not in got]
    wrong += [f"{name} is of no parameter" for name in got if name not in expected]
    wrong += [f"{n} is {got[n]}, expected {expected[n]}" for n in expected if n in got and got[n] != expected[n]]
    if wrong:
        more = f" and {len(wrong) - 20} more" if len(wrong) > 20 else ""
        what = f"the tensors are not those of a {architecture.name} of these settings; {'; '.join(wrong[:20])}{more}"
        raise CheckpointError(container.path, what)
