"""The folder as a whole: which files are read and written, and in what order."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos.config import ModelConfig
from loopos.errors import Birth, NonFiniteError
from loopos.files import durable
from loopos.files.tensorfile import stream_safetensors
from loopos.precision import check_read
from loopos.text.folder import of_another

from .card import README, card, replaceable
from .classes import classes_json
from .families import FAMILIES
from .settings import config_from_json, describes, family_in, family_of, to_json
from .shards import WEIGHTS, open_weights
from .slots import layout
from .source import CONFIG, GENERATION, Source, generation_config
from .tensors import Weights, weights_of

MAX_CONFIG_BYTES = 16 << 20
ADAPTER = "adapter_config.json"
WRITTEN = {"float32": "float32", "float64": "float64", "uint16": "bfloat16"}  # of arrays: what config.json calls it


class Opened(NamedTuple):
    """arrays: the parameters by LoopOS name and in LoopOS order, each read when it is asked for; source: the folder's
    other files."""

    config: ModelConfig
    arrays: Weights
    source: Source


def is_pretrained(folder: str | os.PathLike) -> bool:
    """Whether this is, or was meant as, a Hugging Face folder: of a model, or of an adapter."""
    return (Path(folder) / CONFIG).is_file()


def open_pretrained(folder: str | os.PathLike, dtype: str | None = None) -> Opened:
    """What the folder of a model of a family in ``families/`` holds.

    dtype: "float32" or "float64"; None keeps the file's, which must then be one of the two. Widening is exact,
    narrowing rounds to nearest. Nothing outside the folder is read and nothing in it is executed. All is checked but
    the numbers, which are not read yet.

    Raises FileNotFoundError (no folder, config.json or weights), CheckpointError (a file that is malformed, or whose
    tensors are not those of config.json), ValueError (a setting or dtype that is not supported; when a parameter is
    read, a weight beyond the range of ``dtype``). CheckpointError is a ValueError.
    """
    check_read("from_pretrained", dtype)
    folder = Path(folder)
    if not folder.is_dir():
        code = errno.ENOTDIR if folder.exists() else errno.ENOENT
        what = f"from_pretrained: expected the folder of a model, got {os.strerror(code)}"
        raise OSError(code, what, str(folder))
    path = folder / CONFIG
    if not path.exists():
        what = "from_pretrained: the folder has no config.json, and no checkpoint of loopos.train"
        raise FileNotFoundError(errno.ENOENT, what, str(path))
    values = durable.load_json(path, MAX_CONFIG_BYTES)
    config = config_from_json(path, values)
    weights = weights_of(open_weights(folder), config, family_in(path, values), dtype)
    return Opened(config, weights, Source.of(folder, values))


def write_pretrained(
    folder: str | os.PathLike,
    config: ModelConfig,
    arrays: Mapping[str, np.ndarray],
    source: Source | None = None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json, generation_config.json and model.safetensors, so that transformers opens the folder.

    arrays: the parameters by LoopOS name, all float32, all float64, or all bfloat16, whose bits come as uint16; that is
    also the dtype of the file. source: of the folder that the model came from; its tokenizer, chat template,
    generation_config.json and the other settings of its config.json are written too, and what the folder has of another
    tokenizer is removed. record: of the run that trained the model; then a model card is written, unless the folder has
    a README.md that is not ours or that someone changed. Each file is replaced whole or not at all, and durably. A
    config of several families is written as the source's.

    Raises ValueError for a config of no family or arrays that are not its parameters, TypeError for another dtype,
    NonFiniteError for a weight that is NaN or infinite, all before anything is written.
    """
    family = FAMILIES[family_of(config, source.settings.get("model_type") if source is not None else None)]
    slots = list(layout(config, family.names))
    _check_arrays({slot.name: slot.shape for slot in slots}, arrays)
    dtype = WRITTEN[str(next(iter(arrays.values())).dtype)]
    parts = (part for slot in slots for part in slot.parts(np.asarray(arrays[slot.name])))
    tensors = {part.source: (part.shape, part.view) for part in parts}
    settings = to_json(config, family, dtype)
    if source is not None:
        settings = source.config(settings, describes(source.settings, config))
        settings |= (
            classes_json(config.labels, settings | {"architectures": [family.architecture]}) if config.labels else {}
        )
    contents = {
        GENERATION: _json(generation_config(settings)),
        **(source.companions if source is not None else {}),
        CONFIG: _json(settings),
        WEIGHTS: stream_safetensors(tensors, {"format": "pt"}),
    }
    if record is not None and replaceable(Path(folder) / README):
        contents[README] = card(record, settings)
    for parent in sorted({(Path(folder) / name).parent for name in contents}):
        durable.make_folder(parent)
    stale = of_another(Path(folder), contents)
    replace_together(Path(folder), contents)
    for name in stale:
        durable.remove(Path(folder) / name)


def _json(values: dict) -> bytes:
    return durable.dump_json(values, indent=2) + b"\n"


def replace_together(folder: Path, contents: dict[str, Any]) -> None:
    """Put the files in place together: all are on the disk before the first name changes, so a full disk harms none."""
    staged: dict[Path, Path] = {}
    try:
        for name, data in contents.items():
            staged[folder / name] = aside = durable.beside(folder / name, "tmp")
            durable.create(aside, data)
        for path, aside in staged.items():
            with durable.explained("put the finished file in its place", path):
                os.rename(aside, path)
    except BaseException:
        for aside in staged.values():
            with contextlib.suppress(OSError):
                os.unlink(aside)
        raise
    for parent in sorted({path.parent for path in staged}):
        durable.sync_folder(parent)


def _check_arrays(expected: dict[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray]) -> None:
    missing, unexpected = [n for n in expected if n not in arrays], [n for n in arrays if n not in expected]
    shared = [n for n in expected if n in arrays]
    other = [f"{n} {arrays[n].shape}, expected {expected[n]}" for n in shared if arrays[n].shape != expected[n]]
    if missing or unexpected or other:
        raise ValueError(
            f"save_pretrained: the arrays are not the parameters of the config: missing {missing}, unexpected "
            f"{unexpected}, of another shape {other}"
        )
    dtypes = sorted({str(array.dtype) for array in arrays.values()})
    if len(dtypes) != 1 or dtypes[0] not in WRITTEN:
        known = " or ".join(f"all {dtype}" for dtype in WRITTEN)
        raise TypeError(f"save_pretrained: the arrays must be {known}, got {', '.join(dtypes)}")
    refuse_nonfinite("save_pretrained", arrays)


def refuse_nonfinite(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    """NonFiniteError for the first weight that is NaN or infinite."""
    for name, array in arrays.items():
        numbers = (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array
        bad = np.argwhere(~np.isfinite(numbers))
        if len(bad):
            index = tuple(int(i) for i in bad[0])
            layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
            cause = "weight not finite: it was not finite when the model was about to be saved"
            birth = Birth(None, "forward", layer, "parameter", name, index, float(numbers[index]), cause)
            raise NonFiniteError(birth, f"{where}: nothing was written. {birth}")
