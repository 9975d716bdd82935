"""A bundle of a watched program: what one step began from, and what came of it, in one safetensors file.

``weights.<name>``: parameters and buffers as they were before the step; ``inputs.<n>``, ``random.<call>.<n>``: what the
model was given at each call and the state of the generators; ``operation.<n>``: operands of the operation where the
number was born, so that it can be done again without the program. The metadata hold a JSON text with the rest: names of
classes and functions (a name is never imported unless the command line says so), versions, birth. No code, no pickle.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loopos.build_info import __version__
from loopos.errors import Birth, CheckpointError
from loopos.files import durable
from loopos.files.tensorfile import parse_safetensors, serialize_safetensors
from loopos.run.bundle import FOLDER, WATCHED, birth_again, digest_of, find_bundle, header_of, to_plain

from .calls import Call
from .encoding import Encoder, to_array
from .tracer import Operation

VERSION = "1"
MOST = 1 << 28  # bytes of operands that are kept


@dataclass(frozen=True)
class WatchBundle:
    """about: the JSON; arrays: all tensors by name; birth: what was found."""

    path: Path
    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    birth: Birth


def keep(
    folder: Path, model: torch.nn.Module, calls: Sequence[Call], birth: Birth, operation: Operation | None, **more: Any
) -> Path:
    """Write the bundle of a step whose weights are still those of before it. more: step, loss, grad_norm, notes."""
    arrays: dict[str, np.ndarray] = {}
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    taken = calls[0].taken if calls else {}
    dtypes = {}
    for name, tensor in state.items():
        before = taken[name][1] if name in taken and taken[name][1].numel() == tensor.numel() else tensor
        before = before.detach().cpu().contiguous()
        dtypes[name] = str(before.dtype).removeprefix("torch.")
        arrays[f"weights.{name}"] = to_array(before)
    encode = Encoder(arrays, "inputs")
    about = {
        "step": more["step"],
        "outcome": {"loss": float(more["loss"]).hex(), "grad_norm": float(more["grad_norm"]).hex(), "valid_tokens": 0}
        | {"birth": to_plain(birth)},
        "run": None,
        "notes": list(more["notes"]),
        "build": versions(),
        "model": _name(type(model)),
        "config": _config(model),
        "evaluating": [name for name, module in model.named_modules() if not module.training],
        "dtypes": dtypes,
        "calls": [_call(call, number, arrays, encode) for number, call in enumerate(calls)],
        "operation": None if operation is None else _operation(operation, arrays),
    }
    text = durable.dump_json(about).decode("ascii")
    metadata = {"format": WATCHED, "version": VERSION, "about": text, "sha256": digest_of(text, arrays)}
    durable.make_folder(folder / FOLDER)
    path = folder / FOLDER / f"step-{more['step']:08d}.safetensors"
    durable.write_bytes(path, serialize_safetensors(arrays, metadata))
    return path


def read(path: Any) -> WatchBundle:
    """Read and verify. OSError when there is no such file, CheckpointError for whatever is wrong in it."""
    path = find_bundle(path)
    tensors, metadata = parse_safetensors(durable.read_bytes(path), path)
    about = header_of(metadata, path, WATCHED)
    arrays = {name: tensor.array for name, tensor in tensors.items()}
    if digest_of(metadata["about"], arrays) != metadata.get("sha256"):
        raise CheckpointError(path, "its SHA-256 is not the one it was written with: the bytes have changed")
    try:
        birth = birth_again(about["outcome"]["birth"])
        if birth is None or type(about["step"]) is not int:
            raise ValueError("it has no birth")
        return WatchBundle(path, about, arrays, birth)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(path, f"it cannot be used: {type(error).__name__}: {error}") from error


def versions() -> dict[str, str]:
    """What the step was computed with."""
    names = ("torch", "numpy", "transformers", "lightning", "accelerate")
    found = {name: str(sys.modules[name].__version__) for name in names if name in sys.modules}
    threads = str(torch.get_num_threads())
    return {"loopos": __version__, "python": platform.python_version(), "threads": threads, **found}


def _name(of: Any) -> str | None:
    """ "module:name" of a class or function that can be imported, else None."""
    module, name = getattr(of, "__module__", None), getattr(of, "__qualname__", None)
    return f"{module}:{name}" if module and name and "<" not in name else None


def _config(model: torch.nn.Module) -> Any:
    """Of a model of transformers."""
    config = getattr(model, "config", None)
    try:
        return durable.parse_json(config.to_json_string(use_diff=False).encode(), "config")
    except (AttributeError, TypeError, ValueError):
        return None


def _call(call: Call, number: int, arrays: dict[str, np.ndarray], encode: Encoder) -> dict[str, Any]:
    function = call.function.func if isinstance(call.function, partial) else call.function
    state = call.randomness
    arrays[f"random.{number}.torch"] = state.cpu.numpy()
    kind, keys, *rest = state.numpy
    arrays[f"random.{number}.numpy"] = np.asarray(keys, np.uint32)
    version, words, following = state.python
    arrays[f"random.{number}.python"] = np.asarray(words, np.uint32)
    args, kwargs = call.inputs
    return {
        "function": _name(function) if function is not None else None,
        "args": encode(tuple(args)),
        "kwargs": encode(dict(kwargs)),
        "numpy": [kind, *(float(each).hex() if isinstance(each, float) else int(each) for each in rest)],
        "python": [version, None if following is None else float(following).hex()],
        "autocast": [[device, str(dtype).removeprefix("torch.")] for device, dtype in call.autocast],
        "loss": None if call.loss is None else float(call.loss).hex(),
    }


def _operation(operation: Operation, arrays: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """None of operands that are too many or cannot be kept."""
    mine: dict[str, np.ndarray] = {}
    encode = Encoder(mine, "operation")
    args, kwargs = encode(tuple(operation.args)), encode(dict(operation.kwargs))
    if not encode.whole or sum(array.nbytes for array in mine.values()) > MOST:
        return None
    arrays |= mine
    return {"name": operation.name, "overload": operation.overload, "args": args, "kwargs": kwargs}
