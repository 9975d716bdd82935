"""One checkpoint: a folder of three files and a manifest, verified as a whole before a number of it is used.

::

    model.safetensors       the weights
    optimizer.safetensors   the optimizer's arrays
    state.json              {"step": updates done, "state": what else the caller needs to continue}
    manifest.json           size and SHA-256 of the three, and the id of the run; written last
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loopos.errors import Birth, CheckpointError, NonFiniteError

from . import durable
from .tensorfile import parse_safetensors, safetensors_pieces

FORMAT, VERSION = "loopos-checkpoint", 1
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
OPTIMIZER_PREFIX = "optimizer."
RUN = "run"  # the key, in state and manifest, of the id that the checkpoints of one run share
_MAX_MANIFEST = 1 << 16

# The second group is that of a checkpoint set aside, which still counts (see checkpoint.py).
NAME = re.compile(r"step-([0-9]{8,})(\.old\.[0-9]+\.[0-9a-f]+)?")


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after ``step`` updates: named arrays (writable, bit for bit) and the caller's state."""

    path: Path
    step: int
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]

    @property
    def run(self) -> str | None:
        """The id of its run, where the state has one."""
        run = self.state.get(RUN)
        return run if isinstance(run, str) else None

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The arrays that are not the optimizer's."""
        return split_arrays(self.arrays)[0]

    @property
    def optimizer(self) -> dict[str, np.ndarray]:
        """The arrays saved as ``optimizer.<name>``, by ``<name>``."""
        return split_arrays(self.arrays)[1]


def runs_of(folder: Path) -> set[str]:
    """The ids of the run that a checkpoint, sound or not, says it is of. It says so twice, so that damage to one file
    does not hide it; what a damaged file says is harmless, as no other run has such an id."""
    said = []
    unreadable = (OSError, CheckpointError, LookupError, TypeError)  # the last two: JSON of another shape
    with contextlib.suppress(*unreadable):
        said.append(durable.load_json(folder / MANIFEST, limit=_MAX_MANIFEST)[RUN])
    with contextlib.suppress(*unreadable):
        said.append(durable.load_json(folder / STATE)["state"][RUN])
    return {run for run in said if isinstance(run, str)}


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def split_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(weights, optimizer arrays): a name that begins with "optimizer." is the optimizer's and loses that prefix."""
    weights, optimizer = {}, {}
    for name, array in arrays.items():
        if name.startswith(OPTIMIZER_PREFIX):
            optimizer[name[len(OPTIMIZER_PREFIX) :]] = array
        else:
            weights[name] = array
    return weights, optimizer


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is, or was meant as, one checkpoint, sound or not."""
    return bool(NAME.fullmatch(folder.name)) or any(os.path.lexists(folder / name) for name in (MANIFEST, MODEL, STATE))


def refuse_nonfinite(step: int, arrays: Mapping[str, np.ndarray]) -> None:
    """NonFiniteError for the first NaN or inf. TypeError for what is not a named array."""
    for name, array in arrays.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            got = f"{name!r}: {type(array).__name__}"
            raise TypeError(f"CheckpointStore.save: expected str names and numpy arrays, got {got}")
        if array.dtype.kind != "f" or (finite := np.isfinite(array)).all():
            continue
        index = tuple(int(i) for i in np.unravel_index(np.argmin(finite), array.shape))
        layer = next((int(part) for part in name.split(".") if part.isascii() and part.isdigit()), None)
        moment = name.startswith(OPTIMIZER_PREFIX)
        cause = f"weight not finite: it was not finite when the checkpoint of step {step} was due"
        birth = Birth(
            step=step,
            phase="update" if moment else "forward",
            layer=layer,
            op="optimizer" if moment else "parameter",
            tensor=name,
            index=index,
            value=float(array[index]),
            cause=cause,
        )
        raise NonFiniteError(birth, f"no checkpoint is written of such numbers; earlier ones are intact. {birth}")


def write_folder(folder: Path, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
    """Make ``folder`` and write the checkpoint into it, durably. What a failure leaves there, the caller removes."""
    weights, optimizer = split_arrays(arrays)
    described = durable.dump_json({"step": step, "state": dict(state)}, indent=1)
    with durable.explained("make the folder of a checkpoint", folder):
        os.mkdir(folder)
    entries = {}
    # Pieces are the arrays themselves: no memory is left for a copy of them.
    files = {MODEL: safetensors_pieces(weights), OPTIMIZER: safetensors_pieces(optimizer), STATE: [described]}
    for name, pieces in files.items():
        durable.create(folder / name, iter(pieces))
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        entries[name] = {"size": sum(len(piece) for piece in pieces), "sha256": digest.hexdigest()}
    manifest = {"format": FORMAT, "version": VERSION, "files": entries}
    if RUN in state:
        manifest[RUN] = state[RUN]
    durable.create(folder / MANIFEST, durable.dump_json(manifest, indent=1))
    durable.sync_folder(folder)


def read_folder(folder: Path) -> Checkpoint:
    """Read one checkpoint. Every fault of it, files that cannot be read included, is a CheckpointError."""
    try:
        return _read_verified(folder)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):  # a fault of this process, not of the file
            raise
        what = "the file is missing" if error.errno == errno.ENOENT else f"the file cannot be read: {error.strerror}"
        raise CheckpointError(error.filename or folder, what) from error


def _read_verified(folder: Path) -> Checkpoint:
    content = {}
    for name, (size, digest) in _read_manifest(folder / MANIFEST).items():
        data = durable.read_bytes(folder / name, limit=size)
        if data.size < size:
            raise CheckpointError(folder / name, f"the file has {data.size} of {size} bytes", data.size)
        if hashlib.sha256(data).hexdigest() != digest:
            raise CheckpointError(folder / name, "its SHA-256 is not the one in the manifest: the bytes have changed")
        content[name] = data
    step, state = _read_state(content[STATE], folder)
    weights, _ = parse_safetensors(content[MODEL], folder / MODEL)
    optimizer, _ = parse_safetensors(content[OPTIMIZER], folder / OPTIMIZER)
    arrays = {name: tensor.array for name, tensor in weights.items()}
    arrays |= {OPTIMIZER_PREFIX + name: tensor.array for name, tensor in optimizer.items()}
    return Checkpoint(folder, step, arrays, state)


def _read_state(data: np.ndarray, folder: Path) -> tuple[int, dict[str, Any]]:
    path = folder / STATE
    described = durable.parse_json(data, path)
    if not isinstance(described, dict) or set(described) != {"step", "state"}:
        raise CheckpointError(path, "expected an object with step and state")
    step, state = described["step"], described["state"]
    if type(step) is not int or step < 0 or not isinstance(state, dict):
        raise CheckpointError(path, "step must be a non-negative integer and state an object")
    named = NAME.fullmatch(folder.name)
    if named and int(named[1]) != step:
        raise CheckpointError(path, f"the folder is named for step {int(named[1])}, but this is step {step}")
    return step, state


def _read_manifest(path: Path) -> dict[str, tuple[int, str]]:
    """Size and digest of exactly the files that a checkpoint has: no name found in a manifest is ever followed."""
    manifest = durable.load_json(path, limit=_MAX_MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(path, "this is not the manifest of a LoopOS checkpoint")
    version, entries = manifest.get("version"), manifest.get("files")
    if type(version) is not int or version != VERSION:
        raise CheckpointError(path, f"format version {version!r}; this LoopOS reads version {VERSION}")
    if not isinstance(entries, dict) or set(entries) != {MODEL, OPTIMIZER, STATE}:
        raise CheckpointError(path, f"expected the files {MODEL}, {OPTIMIZER} and {STATE}")
    for name, entry in entries.items():
        sound = isinstance(entry, dict) and type(entry.get("size")) is int and isinstance(entry.get("sha256"), str)
        if not sound or entry["size"] < 0:
            raise CheckpointError(path, f"{name}: expected a size and a sha256")
    return {name: (entry["size"], entry["sha256"]) for name, entry in entries.items()}
